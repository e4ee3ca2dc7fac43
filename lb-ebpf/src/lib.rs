//! Packet logic of xvip, without the kernel: parse, decide, rewrite.
#![cfg_attr(not(test), no_std)]
