//! Leave for aya to move these types to and from the kernel as bytes.

use super::{
    Allowed, Backend, Bucket, Claim, Correction, Dialled, Endpoint, Flow, FlowKey, Hook, Lease, Load, Node, PortKey,
    PortSet, Pulse, Service, Sharing, Source, SourceLimit, Suspicion, Syn, Traffic,
};
use crate::net::Be128;

macro_rules! pod {
    ($($name:ty),*) => {$(
        // SAFETY: `repr(C)`, every field an integer or array of them, and the size assertions beside the
        // definitions leave no room for padding; any bytes are a valid value.
        unsafe impl aya::Pod for $name {}
    )*};
}

pod!(
    Allowed,
    Backend,
    Bucket,
    Claim,
    Correction,
    Dialled,
    Endpoint,
    Flow,
    Flow<Be128>,
    FlowKey,
    FlowKey<Be128>,
    Hook,
    Lease,
    Load,
    Node,
    PortKey,
    PortSet,
    Pulse,
    Service,
    Sharing,
    Source,
    SourceLimit,
    Suspicion,
    Syn,
    Traffic
);
