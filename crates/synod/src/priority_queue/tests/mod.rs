//! The priority queue against a store that loses answers, delays requests and stops at every step.

use super::*;
use crate::testing::{Faulty, engine};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn lower_numbers_come_out_first_and_equal_ones_as_they_went_in() {
    for client in [Client::from_store(engine()), Faulty::new().client(LONG)] {
        let queue = client.priority_queue("q");
        for (value, priority) in [("third", 3), ("first", 1), ("second", 2), ("first too", 1)] {
            queue.enqueue(value, priority).await.unwrap();
        }
        for expected in ["first", "first too", "second", "third"] {
            assert_eq!(queue.dequeue().await.unwrap(), expected);
        }
        assert_eq!(queue.try_dequeue().await.unwrap(), None);
    }
}
