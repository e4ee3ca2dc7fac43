//! Both ends of the admin socket: requests to the agent, and answers to a command.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use xvip::admin::{Access, Flows, Order, Right, answer, read_status};
use xvip::drivers::vrrp::Outcome;
use xvip::events::Reporter;
use xvip::status::Status;

use crate::bytes::Bytes;
use crate::pipe::{Pipe, run};

/// A request from whoever may use the socket, or an answer from whoever has taken the agent's place.
///
/// A request is answered in HTTP or not at all, and changes nothing but by asking for it where it may. An answer is a status, or
/// an error of one line.
pub fn admin(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let (how, step) = (bytes.byte(), bytes.byte());
    let right = if how & 2 == 0 { Right::Change } else { Right::Look };
    if how & 1 == 0 { requested(bytes.rest(), step, right) } else { answered(bytes.rest(), step, how & 2 != 0) }
}

fn requested(words: &[u8], step: u8, right: Right) {
    let pipe = Pipe::asking(words, step);
    let heard = pipe.heard();
    let (_status, receiver) = watch::channel(Arc::new(example()));
    let (sender, mut reloads) = mpsc::channel::<Order>(1);
    let asked = run(async {
        let agent = async {
            let mut asked = 0;
            while let Some(request) = reloads.recv().await {
                asked += 1;
                // Whoever asked may be gone.
                match request {
                    Order::Reload(request) => {
                        let _ = request.reply.send(if asked % 2 == 1 { Ok(()) } else { Err(vec!["no".to_owned()]) });
                    }
                    Order::Backend(order) => {
                        let _ = order.reply.send(if order.save {
                            Ok(order.name.into())
                        } else {
                            Err(vec!["no".to_owned()])
                        });
                    }
                    Order::Capture(order) => drop(order.reply.send(Err("no".to_owned()))),
                    Order::StepDown(order, _) => {
                        let _ = order
                            .reply
                            .send(order.name.map(|name| (name, Outcome::NobodyTookOver)).into_iter().collect());
                    }
                }
            }
            asked
        };
        let events = Reporter::default();
        events.report("datapath".to_owned(), "attached".to_owned());
        let access = Access { status: receiver, orders: sender, events, flows: Flows::default() };
        tokio::join!(answer(pipe, right, access), agent).1
    });
    let said = heard.bytes();
    assert!(said.is_empty() || said.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&said));
    if asked > 0 {
        assert_eq!(asked, 1, "one request for each connection");
        assert!(words.windows(4).any(|word| word == b"POST"), "a change is asked for");
        assert_eq!(right, Right::Change, "who may look changes nothing");
    }
}

fn answered(words: &[u8], step: u8, bare: bool) {
    let words = if bare { [&with_length(words)[..], words].concat() } else { words.to_vec() };
    let pipe = Pipe::answering(&words, step);
    match run(read_status(pipe, Path::new("/run/xvip/admin.sock"))) {
        Ok(status) => {
            let again = serde_json::to_vec(&status).map(|json| serde_json::from_slice::<Status>(&json).is_ok());
            assert!(matches!(again, Ok(true)), "a status can be told on");
        }
        Err(error) => assert!(matches!(error.exit_code(), 1 | 3)),
    }
}

/// The head of an answer with this body.
fn with_length(body: &[u8]) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes()
}

/// A status with one of everything.
pub(crate) fn example() -> Status {
    match serde_json::from_str(include_str!("status.json")) {
        Ok(status) => status,
        Err(error) => unreachable!("the example is a status: {error}"),
    }
}
