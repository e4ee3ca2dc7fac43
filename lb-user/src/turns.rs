//! Work that costs much is done one piece at a time, on threads apart.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::clock;

/// Turns at something; clones share them.
///
/// The work itself holds its turn, not whoever waits for the outcome: who hangs up neither ends the work nor lets the next begin.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Turns {
    /// Waits for a turn, and does this in it. After it nobody has a turn for as long as `rest` makes of the time that it took.
    /// Nothing comes back of work that panics. Needs a tokio runtime with time.
    pub(crate) async fn take<T: Send + 'static>(
        &self, rest: impl FnOnce(Duration) -> Duration + Send + 'static, work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // An error means that the turns were closed, which they never are.
        let turn = Arc::clone(&self.0).acquire_owned().await.ok()?;
        let work = move || {
            let started = clock::now();
            let done = work();
            let rest = rest(clock::now().saturating_duration_since(started));
            if rest.is_zero() {
                drop(turn);
            } else {
                tokio::spawn(async move {
                    tokio::time::sleep(rest).await;
                    drop(turn);
                });
            }
            done
        };
        tokio::task::spawn_blocking(work).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;

    /// Begins work that lasts until it is told to end, and goes away while it lasts.
    async fn leave(turns: &Turns) -> mpsc::Sender<()> {
        let ((begin, begun), (end, ended)) = (oneshot::channel(), mpsc::channel());
        let turns = turns.clone();
        let work = move || begin.send(()).is_ok() && ended.recv().is_ok();
        let waiting = tokio::spawn(async move { turns.take(|_| Duration::ZERO, work).await });
        begun.await.unwrap();
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        end
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_turn_to_the_work() {
        let turns = Turns::default();
        let end = leave(&turns).await;
        assert_eq!(turns.0.available_permits(), 0, "the work goes on");
        end.send(()).unwrap();
        assert_eq!(turns.take(|_| Duration::ZERO, || 7).await, Some(7));
        assert_eq!(turns.take(|_| Duration::ZERO, || panic!("as work may")).await, None::<()>);
        assert_eq!(turns.take(|_| Duration::ZERO, || 8).await, Some(8), "others go on");
    }

    #[tokio::test]
    async fn the_next_waits_for_the_rest() {
        const DAY: Duration = Duration::from_secs(86_400);
        let turns = Turns::default();
        assert_eq!(turns.take(|_| DAY, || 7).await, Some(7), "the outcome is there at once");
        assert_eq!(turns.0.available_permits(), 0);
    }
}
