//! Finds a compiler and linker for the kernel side and builds it with them.
