//! Whether a driver runs XDP, asked of the kernel's generic netlink family `netdev` (since Linux 6.3).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::NetlinkError;
use super::attributes::{attributes, word};

const ASK_FEATURES: &str = "ask for the features of a device";

// linux/genetlink.h, linux/netdev.h
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
/// The driver runs programs and knows XDP_PASS, XDP_DROP, XDP_TX and XDP_ABORTED.
const NETDEV_XDP_ACT_BASIC: u32 = 1;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// Of a netlink message, and of one with the generic header.
const HEADER: usize = 16;
const GENERIC_HEADER: usize = HEADER + 4;

/// Whether the driver of a device says that it runs XDP; `None` where the kernel does not tell. Blocks for as long as the kernel
/// takes to answer.
///
/// # Errors
/// The socket failed, or the answer makes no sense.
pub fn runs_xdp(ifindex: u32) -> Result<Option<bool>, NetlinkError> {
    let failed = |source| NetlinkError::Refused { doing: ASK_FEATURES, source };
    let socket = open().map_err(failed)?;
    let family = message(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let family = match ask(&socket, &family) {
        Ok(body) => value(&body, CTRL_ATTR_FAMILY_ID).and_then(|id| id.first_chunk().copied()),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => None,
        Err(error) => return Err(failed(error)),
    };
    let Some(family) = family.map(u16::from_ne_bytes) else { return Ok(None) };
    let device = message(family, NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes());
    let body = ask(&socket, &device).map_err(failed)?;
    // A word of 64 bits, of which the lower half is in use.
    let features = value(&body, NETDEV_A_DEV_XDP_FEATURES).and_then(|features| {
        let features: [u8; 8] = *features.first_chunk()?;
        Some(u64::from_ne_bytes(features))
    });
    Ok(features.map(|features| features & u64::from(NETDEV_XDP_ACT_BASIC) != 0))
}

fn open() -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkGeneric)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
    Ok(fd)
}

/// A request with one attribute.
fn message(kind: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let attribute_length = 4 + value.len();
    let length = GENERIC_HEADER + attribute_length.next_multiple_of(4);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend((attribute_length as u16).to_ne_bytes());
    bytes.extend(attribute.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length, 0);
    bytes
}

/// The attributes of the one message that answers.
fn ask(socket: &OwnedFd, request: &[u8]) -> io::Result<Vec<u8>> {
    let short = || io::Error::other("the kernel's answer is cut short");
    sendto(socket.as_raw_fd(), request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let (length, from) = recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut buffer)?;
        // Any process may write to the socket; the kernel is port 0.
        if from.is_none_or(|from| from.pid() != 0) {
            continue;
        }
        let answer = buffer.get(..length).ok_or_else(short)?;
        let kind = answer.get(4..6).and_then(|kind| kind.first_chunk()).ok_or_else(short)?;
        if u16::from_ne_bytes(*kind) == NLMSG_ERROR {
            let code = answer.get(HEADER..).and_then(word).ok_or_else(short)?;
            return Err(io::Error::from_raw_os_error(code.cast_signed().saturating_neg()));
        }
        return Ok(answer.get(GENERIC_HEADER..).ok_or_else(short)?.to_vec());
    }
}

fn value(body: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(body).into_iter().find(|(of, _)| *of == kind).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let request = message(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0");
        assert_eq!(word(&request), Some(request.len() as u32));
        assert_eq!(request.len() % 4, 0);
        assert_eq!(value(&request[GENERIC_HEADER..], CTRL_ATTR_FAMILY_NAME), Some(b"netdev\0".as_slice()));
    }

    #[test]
    fn a_device_that_is_not_there_is_refused_where_the_kernel_knows_any() {
        let answer = runs_xdp(u32::MAX / 2);
        assert!(matches!(answer, Ok(None) | Err(NetlinkError::Refused { .. })), "{answer:?}");
    }
}
