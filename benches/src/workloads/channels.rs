//! Owned messages through the standard library's channels: several producers for each consumer, and
//! at most a thousand messages under way to each.
//!
//! Stresses blocks that travel to another thread one by one.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::Load;
use crate::Random;

/// Producers for each consumer, at most.
const PRODUCERS: usize = 3;
/// Messages under way to one consumer.
const UNDER_WAY: usize = 1_000;
/// Messages in all.
const WORK: usize = 3_000_000;

/// A message as servers pass them on.
struct Message {
    topic: String,
    body: Vec<u8>,
    priority: Box<u64>,
}

pub(super) fn run(load: &Load) -> u64 {
    let threads = load.threads().max(2);
    let groups = threads.div_ceil(PRODUCERS + 1);
    let messages = (load.amount(WORK) / (threads - groups)).max(1);
    thread::scope(|scope| {
        let consumers: Vec<_> = (0..groups)
            .map(|group| {
                let (sender, receiver) = sync_channel(UNDER_WAY);
                // The threads that are not consumers are spread over the groups.
                for number in (group..threads - groups).step_by(groups) {
                    let sender = sender.clone();
                    scope.spawn(move || produce(number, messages, &sender));
                }
                scope.spawn(move || receiver.iter().map(weigh).sum::<u64>())
            })
            .collect();
        consumers
            .into_iter()
            .map(|consumer| consumer.join().expect("a consumer does not panic"))
            .sum()
    })
}

fn produce(number: usize, messages: usize, consumer: &SyncSender<Message>) {
    let mut random = Random::new(number as u64);
    for message in 0..messages {
        let message = Message {
            topic: format!("topic/{}", message % 100),
            body: vec![message as u8; random.between(1, 400)],
            priority: Box::new(message as u64 % 10),
        };
        consumer
            .send(message)
            .expect("the consumer stays to the end");
    }
}

fn weigh(message: Message) -> u64 {
    message.topic.len() as u64 + message.body.len() as u64 + *message.priority
}
