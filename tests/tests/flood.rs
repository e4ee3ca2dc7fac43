//! Floods of SYNs between connections that mean well, in the loaded program. Needs root.
#![allow(clippy::unwrap_used, reason = "functions shared by tests fail as tests do")]

use xvip_tests::flood::{Flood, Guard, Senders};
use xvip_tests::kernel::stay_on_cpu;

/// Handshakes that the half-open table has room for.
const HANDSHAKES: u32 = 8192;
const FLOWS: u32 = 5000;
const SYNS: u32 = 300_000;

/// More than the table of half-open flows holds, many times over.
#[test]
fn no_flood_ends_an_established_flow() {
    stay_on_cpu(0).unwrap();
    let mut flood = Flood::new(Guard::None, 2 * FLOWS, HANDSHAKES).unwrap();
    let open: Vec<_> = (0..FLOWS).map(|_| flood.open().unwrap()).collect();
    flood.syns(SYNS, Senders::Random).unwrap();
    let lost = open.iter().filter(|connection| !flood.is_alive(connection).unwrap()).count();
    assert_eq!(lost, 0, "of {FLOWS} after {SYNS} SYNs");
    let [established, half_open] = flood.datapath().flows().unwrap();
    assert_eq!(established.len(), 2 * FLOWS as usize);
    assert!(half_open.len() <= 2 * HANDSHAKES as usize);
}

#[test]
fn new_connections_succeed_during_a_flood() {
    stay_on_cpu(0).unwrap();
    let succeed = |guard, between, senders| {
        let mut flood = Flood::new(guard, 2 * FLOWS, HANDSHAKES).unwrap();
        flood.handshakes(200, between, senders).unwrap()
    };
    // While less comes than the table has room for, nobody is pushed out; what the kernel keeps back for each CPU is spared.
    assert_eq!(succeed(Guard::None, HANDSHAKES / 2, Senders::Random), 200, "half as much as there is room for");
    assert_eq!(succeed(Guard::None, 4 * HANDSHAKES, Senders::Random), 0, "or this test shows nothing");
    // Who is not allowed takes no room, and who is too fast little.
    assert_eq!(succeed(Guard::Allow, 4 * HANDSHAKES, Senders::Random), 200);
    assert_eq!(succeed(Guard::Limit, 4 * HANDSHAKES, Senders::Few(100)), 200);
}
