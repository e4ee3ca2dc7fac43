//! Classic traffic control filters of a link, on the way in and out.

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcHandle, TcMessage};

use super::attributes::{attributes, text, word};
use super::exchange::{self, malformed};
use super::{Netlink, NetlinkError};

/// A classic filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// On the way in.
    pub ingress: bool,
    /// `bpf`, `flower` and the like.
    pub kind: String,
    /// The name that a filter of kind `bpf` was given.
    pub name: Option<String>,
    /// The kernel's number of the program of such a filter.
    pub program: Option<u32>,
}

const LIST_FILTERS: &str = "list traffic control filters";

// linux/pkt_cls.h, linux/rtnetlink.h
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;

impl Netlink {
    /// The filters of a link.
    ///
    /// # Errors
    /// As [`Self::observe`].
    pub async fn filters(&self, ifindex: u32) -> Result<Vec<Filter>, NetlinkError> {
        Self::run(move || {
            let mut filters = Vec::new();
            for (ingress, minor) in [(true, TcHandle::MIN_INGRESS), (false, TcHandle::MIN_EGRESS)] {
                let mut request = TcMessage::with_index(ifindex.cast_signed());
                request.header.parent = TcHandle { major: u16::MAX, minor };
                let replies = exchange::dump(LIST_FILTERS, &RouteNetlinkMessage::GetTrafficFilter(request))?;
                for reply in replies.iter().filter(|reply| reply.kind == libc::RTM_NEWTFILTER) {
                    filters.extend(filter(&reply.body, ingress)?);
                }
            }
            // Kind u32 lists its hash tables and keys one by one.
            filters.dedup();
            Ok(filters)
        })
        .await
    }
}

/// `None` for what stands for a list of filters, not for one.
fn filter(body: &[u8], ingress: bool) -> Result<Option<Filter>, NetlinkError> {
    // struct tcmsg: family, padding, interface, handle, parent, info.
    let header: &[u8; 20] = body.first_chunk().ok_or_else(|| malformed(LIST_FILTERS, "a filter is cut short"))?;
    if header.get(8..12) == Some(&[0; 4]) {
        return Ok(None);
    }
    let mut filter = Filter { ingress, kind: String::new(), name: None, program: None };
    for (kind, value) in attributes(body.get(header.len()..).unwrap_or_default()) {
        match kind {
            TCA_KIND => filter.kind = text(value),
            TCA_OPTIONS => {
                for (kind, value) in attributes(value) {
                    match kind {
                        TCA_BPF_NAME if filter.kind == "bpf" => filter.name = Some(text(value)),
                        TCA_BPF_ID if filter.kind == "bpf" => filter.program = word(value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(Some(filter))
}

#[cfg(test)]
mod tests {
    use super::super::attributes::attribute;
    use super::*;

    #[test]
    fn a_bpf_filter_and_the_head_of_its_list() {
        let options = [attribute(TCA_BPF_NAME, b"cil_from_netdev\0"), attribute(TCA_BPF_ID, &42_u32.to_ne_bytes())];
        let mut body = vec![0; 20];
        body.extend(attribute(TCA_KIND, b"bpf\0"));
        assert_eq!(filter(&body, true).unwrap(), None);
        body[8] = 1;
        body.extend(attribute(TCA_OPTIONS, &options.concat()));
        let name = Some("cil_from_netdev".to_owned());
        let expected = Filter { ingress: true, kind: "bpf".to_owned(), name, program: Some(42) };
        assert_eq!(filter(&body, true).unwrap(), Some(expected));
        assert!(filter(&body[..19], true).is_err());
    }
}
