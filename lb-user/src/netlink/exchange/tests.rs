//! Answers as the kernel gives them, whole, cut short and refused.

use super::*;

/// A message as the kernel lays it out.
fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).unwrap();
    let mut bytes = Vec::new();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn take(answer: &mut Answer, messages: &[Vec<u8>], until: Until) -> Result<bool, NetlinkError> {
    answer.take("test", &messages.concat(), until)
}

fn empty() -> Answer {
    Answer { replies: Vec::new(), interrupted: false }
}

const LINK: u16 = libc::RTM_NEWLINK;

#[test]
fn a_listing_ends_with_done() {
    let mut answer = empty();
    let link = message(LINK, 2, SEQUENCE, b"one");
    assert!(!take(&mut answer, &[link.clone(), link], Until::Done).unwrap());
    let done = message(NLMSG_DONE, 2, SEQUENCE, &0_i32.to_ne_bytes());
    assert!(take(&mut answer, &[message(LINK, 2, SEQUENCE, b"three"), done], Until::Done).unwrap());
    let bodies: Vec<&[u8]> = answer.replies.iter().map(|reply| reply.body.as_slice()).collect();
    assert_eq!(bodies, [b"one".as_slice(), b"one", b"three"]);
    assert!(!answer.interrupted);
}

#[test]
fn an_error_at_the_end_of_a_listing_is_an_error() {
    let done = message(NLMSG_DONE, 2, SEQUENCE, &(-libc::EINVAL).to_ne_bytes());
    let link = message(LINK, 2, SEQUENCE, b"one");
    let error = take(&mut empty(), &[link, done], Until::Done).unwrap_err();
    assert_eq!(error.refused_with(), Some(libc::EINVAL));
}

#[test]
fn a_change_while_listing_is_noticed_wherever_it_is_said() {
    for at in 0..2 {
        let flags = |n: usize| if n == at { 2 | NLM_F_DUMP_INTR } else { 2 };
        let mut answer = empty();
        let link = message(LINK, flags(0), SEQUENCE, b"one");
        let done = message(NLMSG_DONE, flags(1), SEQUENCE, &0_i32.to_ne_bytes());
        assert!(take(&mut answer, &[link, done], Until::Done).unwrap());
        assert!(answer.interrupted);
    }
}

#[test]
fn acknowledgements_refusals_and_single_answers() {
    let ack = |code: i32| message(NLMSG_ERROR, 0, SEQUENCE, &code.to_ne_bytes());
    assert!(take(&mut empty(), &[ack(0)], Until::Acknowledged).unwrap());
    let error = take(&mut empty(), &[ack(-libc::EEXIST)], Until::Acknowledged).unwrap_err();
    assert_eq!(error.refused_with(), Some(libc::EEXIST));
    assert_eq!(error.to_string(), "the kernel refused to test: File exists (os error 17)");
    assert!(take(&mut empty(), &[message(LINK, 0, SEQUENCE, b"")], Until::First).unwrap());
}

#[test]
fn what_is_not_the_answer_is_passed_over() {
    let mut answer = empty();
    let other = message(NLMSG_ERROR, 0, SEQUENCE + 1, &(-libc::EINVAL).to_ne_bytes());
    let noop = message(NLMSG_NOOP, 0, SEQUENCE, b"");
    assert!(!take(&mut answer, &[other, noop], Until::Acknowledged).unwrap());
    assert!(answer.replies.is_empty());
}

#[test]
fn what_is_cut_short_is_an_error() {
    let whole = message(LINK, 2, SEQUENCE, b"one of them");
    for length in 1..whole.len() - 1 {
        let mut answer = empty();
        assert!(matches!(answer.take("test", &whole[..length], Until::Done), Err(NetlinkError::Malformed { .. })));
    }
    let overrun = message(NLMSG_OVERRUN, 0, SEQUENCE, b"");
    assert!(take(&mut empty(), &[overrun], Until::Done).is_err());
    let numberless = message(NLMSG_ERROR, 0, SEQUENCE, b"");
    assert!(take(&mut empty(), &[numberless], Until::Done).is_err());
}
