//! The connect hooks of a cgroup: what the node's own clients dial, and what they are told they have reached.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_sk_lookup_tcp, bpf_sk_release};
use aya_ebpf::macros::{btf_map, cgroup_sock_addr, map};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::SockAddrContext;
use lb_ebpf::abi::{Dialled, Endpoint, Hook, MAX_BACKENDS, MAX_SERVICES, NOBODY, Service};
use lb_ebpf::datapath::local::{self, LocalTables, Translation};
use lb_ebpf::net::{Be16, Be32, Be128};

use crate::maps::{BACKEND_SLOTS, OWN, SERVICES};
use crate::rounds::{add, rounds};

/// The only answer of these hooks: go on, with the address as it is now.
const GO_ON: i32 = 1;
const STREAM: u32 = 1;
const TCP: u32 = 6;

#[map]
static HOOK: Array<Hook> = Array::with_max_entries(1, 0);
#[map]
static PREFERRED: Array<u32> = Array::with_max_entries(MAX_SERVICES, 0);
#[map]
static LOCAL_OPENED: PerCpuArray<u64> = PerCpuArray::with_max_entries(MAX_BACKENDS, 0);
/// Only these programs' business, so no part of the boundary to the agent.
#[map]
static LOCAL_TURNS: PerCpuArray<u32> = PerCpuArray::with_max_entries(MAX_SERVICES, 0);
#[btf_map]
static DIALLED: SkStorage<Dialled> = SkStorage::new();

/// connect(2) of an IPv4 socket.
#[cgroup_sock_addr(connect4)]
pub(crate) fn xvip_connect4(context: SockAddrContext) -> i32 {
    let asked = Endpoint::new(address4(&context), local::port(port(&context)));
    if let Some(translation) = translate(&context, asked) {
        set_address4(&context, translation.reached);
    }
    GO_ON
}

/// connect(2) of an IPv6 socket, which may be to an IPv4 address.
#[cgroup_sock_addr(connect6)]
pub(crate) fn xvip_connect6(context: SockAddrContext) -> i32 {
    let asked = Endpoint::new(address6(&context), local::port(port(&context)));
    if let Some(translation) = translate(&context, asked) {
        set_address6(&context, translation.reached);
    }
    GO_ON
}

/// getpeername(2) of an IPv4 socket.
#[cgroup_sock_addr(getpeername4)]
pub(crate) fn xvip_getpeername4(context: SockAddrContext) -> i32 {
    let peer = Endpoint::new(address4(&context), local::port(port(&context)));
    if let Some(asked) = asked_by(&context, peer) {
        set_address4(&context, asked);
    }
    GO_ON
}

/// getpeername(2) of an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
pub(crate) fn xvip_getpeername6(context: SockAddrContext) -> i32 {
    let peer = Endpoint::new(address6(&context), local::port(port(&context)));
    if let Some(asked) = asked_by(&context, peer) {
        set_address6(&context, asked);
    }
    GO_ON
}

/// Decides, counts, and keeps what was asked for with the socket.
#[inline(always)]
fn translate(context: &SockAddrContext, asked: Endpoint) -> Option<Translation> {
    // SAFETY: the context is valid for the run of the program, and so are its words.
    let (kind, protocol) = unsafe {
        (addr_of!((*context.sock_addr).type_).read_volatile(), addr_of!((*context.sock_addr).protocol).read_volatile())
    };
    if kind != STREAM || protocol != TCP {
        return None;
    }
    // SAFETY: the context is valid for the run of the program.
    let netns = unsafe { bpf_get_netns_cookie(context.sock_addr.cast()) };
    let translation = local::connect(&Kernel { context: context.sock_addr }, netns, asked)?;
    let mut dialled = Dialled { asked, reached: translation.reached };
    // SAFETY: the socket of a context is there as long as the context.
    let kept = unsafe { DIALLED.get_or_insert_ptr_mut(context, Some(&mut dialled)) };
    // Without memory for it the connection is made all the same, and getpeername tells the backend.
    if !kept.is_null() {
        // SAFETY: the kernel's storage of this socket, of this type; one connect(2) at a time holds the socket's lock.
        unsafe { *kept = dialled };
    }
    if let Some(opened) = LOCAL_OPENED.get_ptr_mut(translation.slot) {
        // In one step: unlike the packets' programs these can be preempted by each other.
        // SAFETY: a map value.
        unsafe { add(opened, 1) };
    }
    Some(translation)
}

/// What the client of this socket asked for, if it is still connected to what it got.
#[inline(always)]
fn asked_by(context: &SockAddrContext, peer: Endpoint) -> Option<Endpoint> {
    // SAFETY: the socket of a context is there as long as the context.
    let kept = unsafe { DIALLED.get_ptr_mut(context) };
    if kept.is_null() {
        return None;
    }
    // SAFETY: the kernel's storage of this socket, of this type.
    local::peer(unsafe { &*kept }, peer)
}

/// `BPF_F_CURRENT_NETNS`: that of the connecting socket.
const OWN_NAMESPACE: u64 = u64::MAX;

/// `struct bpf_sock_tuple` (linux/bpf.h), in network order; which version is meant is told by the length.
#[repr(C)]
struct Tuple<A> {
    source: A,
    destination: A,
    source_port: u16,
    port: u16,
}

/// The kernel, as the decision asks it.
struct Kernel {
    context: *mut bpf_sock_addr,
}

impl Kernel {
    #[inline(always)]
    fn has_listener<A: Copy + Default>(&self, address: A, port: Be16) -> bool {
        // From nobody: no connection matches, only who waits for one.
        let mut tuple = Tuple { source: A::default(), destination: address, source_port: 0, port: port.raw() };
        let length = size_of::<Tuple<A>>() as u32;
        // SAFETY: context and structure are valid, and the length is the structure's.
        let socket =
            unsafe { bpf_sk_lookup_tcp(self.context.cast(), (&raw mut tuple).cast(), length, OWN_NAMESPACE, 0) };
        if socket.is_null() {
            return false;
        }
        // SAFETY: the socket was just handed out, and is given back once.
        unsafe { bpf_sk_release(socket.cast()) };
        true
    }
}

rounds!([] Kernel, LOCAL_TURNS);

impl LocalTables for Kernel {
    #[inline(always)]
    fn hook(&self) -> Hook {
        HOOK.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn service(&self, listener: &Endpoint) -> Option<Service> {
        // SAFETY: not preallocated, so the value stays until the program ends; the agent replaces it as a whole.
        unsafe { SERVICES.get(listener) }.copied()
    }

    #[inline(always)]
    fn is_own(&self, address: Be128) -> bool {
        OWN.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn is_backend(&self, endpoint: &Endpoint) -> bool {
        BACKEND_SLOTS.get_ptr(endpoint).is_some()
    }

    #[inline(always)]
    fn preferred(&self, service: u32) -> Option<u32> {
        PREFERRED.get(service).copied().filter(|slot| *slot != NOBODY).map(|slot| slot - 1)
    }

    #[inline(always)]
    fn listens(&self, at: &Endpoint) -> bool {
        match at.address.mapped() {
            Some(address) => self.has_listener(address.raw(), at.port),
            None => self.has_listener(at.address.raw(), at.port),
        }
    }
}

// The kernel takes accesses to the words of the context only whole and by constant offsets; volatile keeps them so.

#[inline(always)]
fn word(at: *const u32) -> u32 {
    // SAFETY: called with the addresses of words of a valid context.
    unsafe { at.read_volatile() }
}

#[inline(always)]
fn set_word(at: *mut u32, value: u32) {
    // SAFETY: called with the addresses of words of a valid context.
    unsafe { at.write_volatile(value) };
}

#[inline(always)]
fn port(context: &SockAddrContext) -> u32 {
    // SAFETY: the address of a field of a valid context.
    word(unsafe { addr_of!((*context.sock_addr).user_port) })
}

#[inline(always)]
fn address4(context: &SockAddrContext) -> Be128 {
    // SAFETY: the address of a field of a valid context.
    Be32::from_wire(word(unsafe { addr_of!((*context.sock_addr).user_ip4) }).to_ne_bytes()).into()
}

#[inline(always)]
fn address6(context: &SockAddrContext) -> Be128 {
    let context: *const bpf_sock_addr = context.sock_addr;
    // SAFETY: the addresses of fields of a valid context.
    Be128::from_raw(unsafe {
        [
            word(addr_of!((*context).user_ip6[0])),
            word(addr_of!((*context).user_ip6[1])),
            word(addr_of!((*context).user_ip6[2])),
            word(addr_of!((*context).user_ip6[3])),
        ]
    })
}

#[inline(always)]
fn set_address4(context: &SockAddrContext, to: Endpoint) {
    // SAFETY: the addresses of fields of a valid context that the kernel lets programs write.
    unsafe {
        let [_, _, _, address] = to.address.raw();
        set_word(addr_of_mut!((*context.sock_addr).user_ip4), address);
        set_word(addr_of_mut!((*context.sock_addr).user_port), to.port.raw() as u32);
    }
}

#[inline(always)]
fn set_address6(context: &SockAddrContext, to: Endpoint) {
    // SAFETY: the addresses of fields of a valid context that the kernel lets programs write.
    unsafe {
        let [a, b, c, d] = to.address.raw();
        set_word(addr_of_mut!((*context.sock_addr).user_ip6[0]), a);
        set_word(addr_of_mut!((*context.sock_addr).user_ip6[1]), b);
        set_word(addr_of_mut!((*context.sock_addr).user_ip6[2]), c);
        set_word(addr_of_mut!((*context.sock_addr).user_ip6[3]), d);
        set_word(addr_of_mut!((*context.sock_addr).user_port), to.port.raw() as u32);
    }
}
