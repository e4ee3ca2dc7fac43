//! Services and their backends: routes, one health check each, the certificate, and the largest packet.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::certificate;
use crate::clock;
use crate::config::{self, CheckKind};
use crate::doctor::facts::{Backend, Seen, Service, Way};
use crate::netlink::{Interfaces, Netlink};
use crate::probe::{Plan, Prober};

/// For a connection and a handshake besides the health check: longer than an API server under load takes.
const PATIENCE: Duration = Duration::from_secs(3);

/// `carried`: the VIPs of all virtual routers.
pub(super) async fn service(
    netlink: Netlink, interfaces: Interfaces, service: config::Service, carried: Vec<IpAddr>,
) -> Service {
    let plan = Plan::new(&service.health_check.kind);
    let tls = matches!(service.health_check.kind, CheckKind::Tls(_) | CheckKind::Https(..));
    // The first port of a range stands for all.
    let listen: Vec<_> = service.listen.iter().map(|listen| SocketAddr::new(listen.address, listen.first)).collect();
    let vips: Vec<IpAddr> =
        listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified() && !ip.is_loopback()).collect();
    let mut tasks = Vec::new();
    for backend in service.backends {
        let plan = plan.as_ref().ok().cloned();
        let (interfaces, vips) = (interfaces.clone(), dialled(&service.listen, &vips, &carried));
        let timeout = service.health_check.timeout;
        let address = backend.checked_at(&service.health_check);
        tasks.push(tokio::spawn(async move {
            let route = way(netlink, &interfaces, &backend).await;
            let outcome = match plan {
                Some(plan) => Some(Prober::new(&plan, address, None).probe(clock::now() + timeout).await),
                None => None,
            };
            let deadline = clock::now() + PATIENCE;
            let connected = match timeout_at(deadline.into(), TcpStream::connect(address)).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no connection in time".to_owned()),
            };
            let path_mtu = connected.as_ref().ok().and_then(|stream| path_mtu(stream).ok());
            let certificate = match connected {
                _ if !tls => None,
                Ok(stream) => Some(certificate::shown(stream, &vips, deadline).await),
                Err(error) => Some(Err(error)),
            };
            Backend { name: backend.name, address, route, outcome, path_mtu, certificate }
        }));
    }
    let mut backends = Vec::new();
    for task in tasks {
        // A task that failed has been abandoned by the runtime, which ends.
        backends.extend(task.await.ok());
    }
    Service { name: service.name, listen, tls, check_fails: plan.err().map(|error| error.to_string()), backends }
}

/// The VIPs by which clients know the backends: those that are listened at, and where that is everywhere, all of its family.
fn dialled(listen: &[config::Listen], vips: &[IpAddr], carried: &[IpAddr]) -> Vec<IpAddr> {
    let everywhere = |vip: &IpAddr| listen.iter().any(|at| at.is_everywhere() && at.address.is_ipv4() == vip.is_ipv4());
    let rest = carried.iter().filter(|vip| everywhere(vip) && !vips.contains(vip));
    vips.iter().chain(rest).copied().collect()
}

async fn way(netlink: Netlink, interfaces: &Interfaces, backend: &config::Backend) -> Seen<Way> {
    let route = netlink.route_to(backend.address.ip()).await.map_err(|error| error.to_string())?;
    let link = interfaces.links.iter().find(|link| link.index == route.ifindex);
    Ok(Way {
        interface: link.map_or_else(|| format!("interface {}", route.ifindex), |link| link.name.clone()),
        gateway: route.gateway,
        local: route.local,
    })
}

/// Bytes of the largest packet on the way to the other end, as the kernel knows it by now.
fn path_mtu(stream: &TcpStream) -> io::Result<u32> {
    // SAFETY: all-zero bytes are a valid tcp_info.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: both pointers are to live values, and the kernel writes at most `length` bytes.
    let asked = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length)
    };
    if asked < 0 { Err(io::Error::last_os_error()) } else { Ok(info.tcpi_pmtu) }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn certificates_are_for_every_vip_that_is_dialled() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let listen = |text: &str| config::Listen::from(text.parse::<SocketAddr>().unwrap());
        let carried = [ip("192.0.2.100"), ip("192.0.2.101"), ip("2001:db8::100")];
        let one = [ip("192.0.2.100")];
        assert_eq!(dialled(&[listen("192.0.2.100:8443"), listen("127.0.0.1:8443")], &one, &carried), one);
        assert_eq!(dialled(&[listen("0.0.0.0:4300")], &[], &carried), carried[..2]);
        assert_eq!(dialled(&[listen("192.0.2.100:8443"), listen("0.0.0.0:4300")], &one, &carried), carried[..2]);
        assert!(dialled(&[listen("0.0.0.0:4300")], &[], &[]).is_empty());
    }
}
