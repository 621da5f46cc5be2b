use std::time::Duration;

use tokio::time::Instant;

use super::{TICK, Timers};
use crate::testing::local;

#[test]
fn deadlines_are_due_in_order_and_at_most_a_tick_late() {
    local(async {
        tokio::time::pause();
        let timers = Timers::new();
        let start = Instant::now();
        let mut tasks = Vec::new();
        for millis in [1u64, 3, 40, 5_000, 8_191, 8_192, 9_000, 60_000, 3_600_000] {
            let deadline = timers.after(Some(Duration::from_millis(millis)));
            tasks.push(tokio::task::spawn_local(async move {
                deadline.await;
                (millis, start.elapsed())
            }));
        }
        for task in tasks {
            let (millis, waited) = task.await.unwrap();
            let wanted = Duration::from_millis(millis);
            assert!(waited >= wanted, "{millis} ms: due after {waited:?}");
            assert!(waited <= wanted + TICK * 2, "{millis} ms: due after {waited:?}");
        }
    });
}

#[test]
fn a_deadline_that_is_moved_back_waits_longer() {
    local(async {
        tokio::time::pause();
        let timers = Timers::new();
        let start = Instant::now();
        let mut deadline = timers.after(Some(Duration::from_millis(100)));
        std::future::poll_fn(|cx| {
            assert!(deadline.poll_due(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        deadline.set(Some(start + Duration::from_millis(900)));
        deadline.await;
        assert!(start.elapsed() >= Duration::from_millis(900));
    });
}

#[test]
fn a_deadline_that_is_moved_forward_is_due_earlier() {
    local(async {
        tokio::time::pause();
        let timers = Timers::new();
        let start = Instant::now();
        let mut deadline = timers.after(Some(Duration::from_secs(900)));
        std::future::poll_fn(|cx| {
            assert!(deadline.poll_due(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        deadline.set(Some(start + Duration::from_millis(20)));
        deadline.await;
        assert!(start.elapsed() < Duration::from_millis(40));
    });
}

#[test]
fn given_up_deadlines_leave_nothing_behind() {
    local(async {
        let timers = Timers::new();
        for _ in 0..1000 {
            let mut deadline = timers.after(Some(Duration::from_secs(15)));
            std::future::poll_fn(|cx| {
                assert!(deadline.poll_due(cx).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
        }
        let wheel = timers.0.borrow();
        assert_eq!(wheel.entries.len(), 1, "the entry is used again");
        assert!(wheel.occupied.iter().all(|word| *word == 0));
    });
}
