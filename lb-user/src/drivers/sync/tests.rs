//! Two drivers over loopback.
