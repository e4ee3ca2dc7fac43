//! Records and entries there and back.
