//! Orders on their way to the agent, and what comes back.

use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use super::Order;
use crate::clock;

/// Why nothing came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// Others have ordered so much that the agent does not know of this.
    #[error("the agent is busy; nothing was done: try again")]
    Busy,
    /// The agent ends.
    #[error("the agent is stopping")]
    Stopping,
    /// It takes long.
    #[error("it is not finished yet; its outcome will be in the log")]
    Slow,
}

impl Unanswered {
    /// The status that says so.
    pub(super) fn code(self) -> StatusCode {
        match self {
            Self::Busy | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Slow => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// Gives the agent an order and waits for its outcome, for this long in all.
///
/// # Errors
/// What is known where none came: whether the agent has the order, or never will.
pub(super) async fn ask<T>(
    orders: &mpsc::Sender<Order>, patience: Duration, order: impl FnOnce(oneshot::Sender<T>) -> Order,
) -> Result<T, Unanswered> {
    let until = (clock::now() + patience).into();
    let place = timeout_at(until, orders.reserve()).await.map_err(|_| Unanswered::Busy)?;
    let (reply, outcome) = oneshot::channel();
    place.map_err(|_| Unanswered::Stopping)?.send(order(reply));
    match timeout_at(until, outcome).await {
        Ok(outcome) => outcome.map_err(|_| Unanswered::Stopping),
        Err(_) => Err(Unanswered::Slow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Caller, ReloadRequest, ReloadResult};

    fn reload(reply: oneshot::Sender<ReloadResult>) -> Order {
        Order::Reload(ReloadRequest { caller: Caller::default(), reply })
    }

    #[tokio::test]
    async fn what_never_reached_the_agent_is_not_said_to_go_on() {
        const SHORT: Duration = Duration::from_millis(1);
        let (orders, mut agent) = mpsc::channel(1);
        // The agent has it, and is slow.
        assert_eq!(ask(&orders, SHORT, reload).await, Err(Unanswered::Slow));
        // There is no place for another.
        assert_eq!(ask(&orders, SHORT, reload).await, Err(Unanswered::Busy));
        assert!(matches!(agent.recv().await, Some(Order::Reload(_))));
        assert!(agent.try_recv().is_err(), "it does not come late either");
        let (outcome, ()) = tokio::join!(ask(&orders, Duration::from_secs(60), reload), async {
            let Some(Order::Reload(request)) = agent.recv().await else { panic!("something else") };
            request.reply.send(Ok(())).unwrap();
        });
        assert_eq!(outcome, Ok(Ok(())));
        drop(agent);
        assert_eq!(ask(&orders, SHORT, reload).await, Err(Unanswered::Stopping));
    }
}
