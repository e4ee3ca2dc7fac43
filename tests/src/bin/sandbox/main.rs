//! The sandbox: a control plane behind a VIP, in namespaces made for it.
fn main() {}
