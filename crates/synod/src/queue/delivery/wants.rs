//! [`Wants`]: the local callers that wait for a delivery, in the order in which they came. Pure.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::Delivery;
use super::options::Options;
use crate::Result;

/// What a caller is answered: nothing at all when it has to ask again.
pub(super) type Answer = Result<Vec<Delivery>>;

/// A caller that waits.
#[derive(Debug)]
pub(super) struct Want {
    /// Who came earlier has a lower number.
    pub(super) number: u64,
    pub(super) options: Options,
    /// The most deliveries that it takes.
    pub(super) max: usize,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// Those that no claim is on its way for.
#[derive(Debug, Default)]
pub(super) struct Wants {
    waiting: VecDeque<Want>,
    next: u64,
}

impl Wants {
    /// A caller comes; or again, with the number that it had.
    pub(super) fn ask(
        &mut self,
        again: Option<u64>,
        options: Options,
        max: usize,
    ) -> (u64, oneshot::Receiver<Answer>) {
        let (reply, receiver) = oneshot::channel();
        let number = again.unwrap_or(self.next);
        self.next = self.next.max(number.saturating_add(1));
        let place = self.waiting.partition_point(|want| want.number < number);
        let want = Want {
            number,
            options,
            max,
            reply,
        };
        self.waiting.insert(place, want);
        (number, receiver)
    }

    /// Whoever comes later has this number, or a higher one.
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    /// Those who left are forgotten. Whether anybody is there.
    pub(super) fn is_empty(&mut self) -> bool {
        self.waiting.retain(|want| !want.reply.is_closed());
        self.waiting.is_empty()
    }

    /// How many deliveries are wanted, and whether a claim can take so many: at most `most`.
    pub(super) fn wanted(&self, most: usize) -> usize {
        let wanted = self.waiting.iter().map(|want| want.max);
        wanted.fold(0, usize::saturating_add).min(most)
    }

    /// The first callers, who want as many as `count` together, or a few more.
    pub(super) fn take(&mut self, count: usize) -> Vec<Want> {
        let mut taken = Vec::new();
        let mut left = count;
        while left > 0
            && let Some(want) = self.waiting.pop_front()
        {
            left = left.saturating_sub(want.max);
            taken.push(want);
        }
        taken
    }

    /// The first who wants a delivery as this one is, and came before `before`.
    pub(super) fn first_like(&mut self, options: Options, before: u64) -> Option<Want> {
        let fits = |want: &Want| {
            want.options == options && want.number < before && !want.reply.is_closed()
        };
        let place = self.waiting.iter().position(fits)?;
        self.waiting.remove(place)
    }

    /// Takes a caller out. False when a claim is on its way for it.
    pub(super) fn withdraw(&mut self, number: u64) -> bool {
        let place = self.waiting.iter().position(|want| want.number == number);
        place.and_then(|place| self.waiting.remove(place)).is_some()
    }

    /// Whether no claim is on its way for this one.
    pub(super) fn waits(&self, number: u64) -> bool {
        self.waiting.iter().any(|want| want.number == number)
    }
}

/// Hands deliveries out, in order: first to those they were taken for, then to whom `next` finds. What
/// nobody takes is returned.
pub(super) fn hand_out(
    wants: Vec<Want>,
    mut deliveries: VecDeque<(Options, Delivery)>,
    mut next: impl FnMut(Options) -> Option<Want>,
) -> Vec<Delivery> {
    let mut unwanted = Vec::new();
    let mut wants: VecDeque<Want> = wants.into();
    loop {
        let want = match (wants.pop_front(), deliveries.front()) {
            (Some(want), _) => want,
            (None, None) => return unwanted,
            (None, Some((options, _))) => match next(*options) {
                Some(want) => want,
                None => {
                    unwanted.extend(deliveries.pop_front().map(|(_, delivery)| delivery));
                    continue;
                }
            },
        };
        let mut mine = Vec::new();
        let mut others = VecDeque::new();
        for (options, delivery) in deliveries {
            if mine.len() < want.max && options == want.options {
                mine.push(delivery);
            } else {
                others.push_back((options, delivery));
            }
        }
        deliveries = others;
        let options = want.options;
        if let Err(Ok(back)) = want.reply.send(Ok(mine)) {
            // It left meanwhile.
            for delivery in back.into_iter().rev() {
                deliveries.push_front((options, delivery));
            }
        }
    }
}
