//! The other end of a connection, in memory: says what it has to say and closes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection to somebody whose words are known beforehand.
#[derive(Debug)]
pub(crate) struct Pipe {
    words: Vec<u8>,
    said: usize,
    /// Bytes said at a time.
    step: usize,
    /// Says nothing before something is said to it.
    answers: bool,
    /// Does not close before the other end does.
    stays: bool,
    waiting: Option<Waker>,
    heard: Heard,
}

/// What has been said to the other end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lock().clone()
    }
}

impl Pipe {
    /// Somebody who speaks first.
    pub(crate) fn asking(words: &[u8], step: u8) -> Self {
        let step = if step == 0 { usize::MAX } else { usize::from(step) };
        let heard = Heard::default();
        Self { words: words.to_vec(), said: 0, step, answers: false, stays: false, waiting: None, heard }
    }

    /// Somebody who waits for a question.
    pub(crate) fn answering(words: &[u8], step: u8) -> Self {
        Self { answers: true, ..Self::asking(words, step) }
    }

    /// Somebody who speaks first and waits for the answer.
    pub(crate) fn waiting(words: &[u8]) -> Self {
        Self { stays: true, ..Self::asking(words, 0) }
    }

    /// What will have been said to it.
    pub(crate) fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.answers && this.heard.lock().is_empty() {
            this.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let left = this.words.get(this.said..).unwrap_or_default();
        if left.is_empty() && this.stays {
            return Poll::Pending;
        }
        let now = left.len().min(this.step).min(buffer.remaining());
        buffer.put_slice(left.get(..now).unwrap_or_default());
        this.said += now;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.heard.lock().extend(bytes);
        if let Some(waker) = this.waiting.take() {
            waker.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs something that waits for nothing but itself.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: Option<tokio::runtime::Runtime> =
            tokio::runtime::Builder::new_current_thread().enable_time().build().ok();
    }
    RUNTIME.with(|runtime| match runtime {
        Some(runtime) => runtime.block_on(future),
        None => unreachable!("a runtime without I/O needs nothing that could be refused"),
    })
}
