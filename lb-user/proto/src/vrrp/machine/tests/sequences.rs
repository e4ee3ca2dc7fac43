//! Whatever happens, in whatever order, some things hold.

use proptest::prelude::*;

use super::*;
use crate::vrrp::active_down_interval;

#[derive(Debug, Clone)]
enum Step {
    Wait(u32),
    Deadline,
    Advert { src: IpAddr, ttl: u8, vrid: u8, priority: u8, interval: u16, vips: u8 },
    Local(Local),
}

fn any_config() -> impl Strategy<Value = Config> {
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    let interval = prop_oneof![1..=4095u16, Just(100)];
    let rest = (1..=2u8, 1..=254u8, interval, any::<bool>(), 0..5000u64, 0..4u8, any::<bool>());
    (family, rest).prop_map(|(family, (vrid, priority, interval, preempt, delay, number, unicast))| {
        let cfg = Config {
            vrid: Vrid::new(vrid).unwrap(),
            priority: Priority::new(priority).unwrap(),
            advert_interval: Centis::new(interval).unwrap(),
            preempt,
            preempt_delay: ms(delay),
            primary: (number > 0).then(|| host(number)),
            addresses: Addresses::new([VIP]).unwrap(),
            peers: if unicast { [host(2), host(3)].into() } else { [].into() },
            version: Version::V3,
            authenticated: false,
        };
        config_over(family, cfg)
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let fault = prop::sample::select(FaultReason::ALL.to_vec());
    let local = prop_oneof![
        4 => Just(Local::Start),
        1 => Just(Local::Stop),
        1 => (0..5000u64).prop_map(|hold| Local::StepDown { hold: ms(hold) }),
        1 => Just(Local::LinkUp),
        1 => Just(Local::LinkDown),
        1 => fault.clone().prop_map(Local::Fault),
        2 => fault.prop_map(Local::Cleared),
        1 => any_config().prop_map(Local::Reconfigure),
    ];
    let advert = (
        (0..5u8, any::<bool>()).prop_map(|(number, six)| if six { over_ipv6(host(number)) } else { host(number) }),
        prop_oneof![9 => Just(255), 1 => any::<u8>()],
        1..=2u8,
        prop_oneof![1 => Just(0), 1 => Just(255), 6 => any::<u8>()],
        1..=4095u16,
        1..4u8,
    );
    prop_oneof![
        3 => (0..5_000_000u32).prop_map(Step::Wait),
        6 => Just(Step::Deadline),
        4 => advert.prop_map(|(src, ttl, vrid, priority, interval, vips)| Step::Advert { src, ttl, vrid, priority, interval, vips }),
        3 => local.prop_map(Step::Local),
    ]
}

fn check(instance: &Instance, now: Instant) -> Result<(), TestCaseError> {
    let running = matches!(instance.state(), State::Backup | State::Active);
    prop_assert_eq!(instance.deadline().is_some(), running);
    if let Some(deadline) = instance.deadline() {
        let longest = 4 * active_down_interval(Priority::MIN, Centis::MAX);
        prop_assert!(deadline.saturating_duration_since(now) <= longest, "no deadline beyond reach");
    }
    prop_assert!(instance.state() != State::Active || instance.config().source().is_some());
    prop_assert!(instance.since() <= now);
    Ok(())
}

proptest! {
    #[test]
    fn any_sequence_keeps_its_promises(cfg in any_config(), steps in prop::collection::vec(any_step(), 0..120)) {
        let mut now = origin();
        let mut instance = Instance::new(cfg, now);
        let mut state = State::Initialize;
        for step in steps {
            let before = instance.deadline();
            match step {
                Step::Wait(micros) => {
                    now += Duration::from_micros(micros.into());
                    if before.is_some_and(|deadline| now < deadline) {
                        instance.on_deadline(now);
                        prop_assert_eq!(instance.deadline(), before, "early calls do nothing");
                        prop_assert_eq!(instance.poll(), None);
                    }
                }
                Step::Deadline => {
                    now = now.max(before.unwrap_or(now));
                    instance.on_deadline(now);
                    prop_assert!(instance.deadline().is_none_or(|deadline| deadline > now), "a deadline served is over");
                }
                Step::Advert { src, ttl, vrid, priority, interval, vips } => {
                    let of_src = |address| if src.is_ipv6() { over_ipv6(address) } else { address };
                    let advert = Advert {
                        vrid: Vrid::new(vrid).unwrap(),
                        priority: WirePriority::new(priority),
                        interval: Centis::new(interval).unwrap(),
                        addresses: Addresses::new(vec![of_src(VIP); vips.into()]).unwrap(),
                    };
                    instance.on_advert(src, ttl, &advert, now, now);
                }
                Step::Local(event) => {
                    instance.on_local(event.clone(), now);
                    let (after, outputs) = (instance.deadline(), drain(&mut instance));
                    for output in &outputs {
                        if let Output::Entered { from, state: to, .. } = output {
                            prop_assert_eq!(*from, state);
                            state = *to;
                        }
                    }
                    instance.on_local(event, now);
                    prop_assert_eq!(instance.deadline(), after, "said twice, done once");
                    prop_assert_eq!(instance.poll(), None);
                }
            }
            for output in drain(&mut instance) {
                if let Output::Entered { from, state: to, .. } = output {
                    prop_assert_eq!(from, state, "no transition goes unreported");
                    state = to;
                }
            }
            prop_assert_eq!(state, instance.state());
            check(&instance, now)?;
        }
    }

    #[test]
    fn nothing_heard_ends_in_active(cfg in any_config(), steps in prop::collection::vec(any_step(), 0..40)) {
        let mut now = origin();
        let mut instance = Instance::new(cfg.clone(), now);
        for step in steps {
            if let Step::Local(event) = step {
                now += ms(1);
                instance.on_local(event, now);
            }
        }
        for reason in FaultReason::ALL {
            instance.on_local(Local::Cleared(reason), now);
        }
        instance.on_local(Local::Reconfigure(Config { primary: config_over(cfg.family(), Config { primary: Some(OWN), ..cfg.clone() }).primary, ..cfg }), now);
        instance.on_local(Local::Start, now);
        for _ in 0..3 {
            let Some(deadline) = instance.deadline() else { break };
            instance.on_deadline(deadline);
        }
        prop_assert_eq!(instance.state(), State::Active);
    }
}
