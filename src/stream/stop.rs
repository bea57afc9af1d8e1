//! The wish to stop, and waits that it ends.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shared by what wishes a stream to stop and what obeys.
#[derive(Debug, Default)]
pub struct Stop {
    since: Mutex<Option<Instant>>,
    woken: Condvar,
}

impl Stop {
    /// Asks for an end. What is in flight is finished.
    pub fn stop(&self) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        self.woken.notify_all();
    }

    /// Whether an end was asked for.
    pub fn stopped(&self) -> bool {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether what is in flight has had its time, and is to be given up.
    pub(crate) fn overdue(&self) -> bool {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|since| since.elapsed() > GRACE)
    }

    /// Waits for a time; less where an end is asked for meanwhile.
    pub(crate) fn wait(&self, time: Duration) {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() {
            let _ = self.woken.wait_timeout(since, time).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// How long a commit that does not come about is tried after an end was asked for: less than what supervisors give (30 s).
const GRACE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_wait_ends_with_the_wish_to_stop() {
        let stop = Arc::new(Stop::default());
        let other = Arc::clone(&stop);
        let waiting = std::thread::spawn(move || {
            while !other.stopped() {
                other.wait(Duration::from_secs(3600));
            }
        });
        stop.stop();
        waiting.join().unwrap();
        assert!(stop.stopped() && !stop.overdue());
    }
}
