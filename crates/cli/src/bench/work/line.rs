//! [`Line`]: a queue of either kind.

use bytes::Bytes;
use synod::queue::QueueStats;
use synod::{Client, PriorityQueue, Queue, Result};

use super::super::spec::{Spec, Workload};

/// A queue of either kind.
#[derive(Debug, Clone)]
pub(crate) enum Line {
    Fifo(Queue),
    Priority {
        queue: PriorityQueue,
        /// How many there are.
        priorities: u32,
    },
}

impl Line {
    /// The queue of a measurement.
    pub(crate) fn of(spec: &Spec, client: &Client) -> Line {
        let name = format!("{}/queue", spec.name);
        if spec.workload == Workload::Queue {
            return Line::Fifo(client.queue(name.as_str()));
        }
        Line::Priority {
            queue: client.priority_queue(name.as_str()),
            priorities: spec
                .priorities
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or(10),
        }
    }

    /// The priority of the item of this number: all equally often, in no order that helps a store.
    fn priority(number: u32, priorities: u32) -> u16 {
        let mixed = number.wrapping_mul(0x9E37_79B1) >> 8;
        u16::try_from(mixed % priorities.max(1)).unwrap_or(0)
    }

    pub(crate) async fn enqueue(&self, number: u32, value: Vec<u8>) -> Result<()> {
        match self {
            Line::Fifo(queue) => queue.enqueue(value).await,
            Line::Priority { queue, priorities } => {
                queue
                    .enqueue(value, Line::priority(number, *priorities))
                    .await
            }
        }
    }

    /// Puts values in that are numbered from `first` on.
    pub(crate) async fn enqueue_many(&self, first: u32, values: Vec<Vec<u8>>) -> Result<()> {
        match self {
            Line::Fifo(queue) => queue.enqueue_many(values).await,
            Line::Priority { queue, priorities } => {
                let numbered = (first..).zip(values);
                let values: Vec<_> = numbered
                    .map(|(number, value)| (value, Line::priority(number, *priorities)))
                    .collect();
                queue.enqueue_many(values).await
            }
        }
    }

    pub(crate) async fn dequeue(&self) -> Result<Bytes> {
        match self {
            Line::Fifo(queue) => queue.dequeue().await,
            Line::Priority { queue, .. } => queue.dequeue().await,
        }
    }

    pub(crate) async fn dequeue_many(&self, max: usize) -> Result<Vec<Bytes>> {
        match self {
            Line::Fifo(queue) => queue.dequeue_many(max).await,
            Line::Priority { queue, .. } => queue.dequeue_many(max).await,
        }
    }

    /// What all handles of the queue in this client have done.
    pub(crate) fn stats(&self) -> QueueStats {
        match self {
            Line::Fifo(queue) => queue.stats(),
            Line::Priority { queue, .. } => queue.stats(),
        }
    }

    pub(crate) async fn len(&self) -> Result<usize> {
        match self {
            Line::Fifo(queue) => queue.len().await,
            Line::Priority { queue, .. } => queue.len().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_drawn_evenly() {
        let mut counts = [0u32; 10];
        for number in 0..100_000 {
            counts[usize::from(Line::priority(number, 10))] += 1;
        }
        assert!(
            counts.iter().all(|count| (9_500..10_500).contains(count)),
            "{counts:?}"
        );
    }
}
