//! A document of some 30 KB is parsed into a tree, changed and written again.
//!
//! Stresses a crowd of strings, vectors and maps that is built as a whole and dropped as a whole.

use serde_json::{Value, json};

use super::Load;
use super::strings::text;
use crate::Random;

/// Documents in all.
const WORK: usize = 1_500;

pub(super) fn run(load: &Load) -> u64 {
    let work = load.share(WORK);
    let document = document().to_string();
    load.on_threads(|number, _| {
        (0..work)
            .map(|round| treat(&document, number + round))
            .sum()
    })
}

/// Two hundred customers with addresses and orders.
fn document() -> Value {
    let mut random = Random::new(1);
    let customers: Vec<Value> = (0..200)
        .map(|id| {
            let orders: Vec<Value> = (0..random.below(4))
                .map(|_| json!({ "item": text(&mut random, 1).trim(), "count": random.below(10) }))
                .collect();
            json!({
                "id": id,
                "name": text(&mut random, 2).trim(),
                "address": { "street": text(&mut random, 3).trim(), "zip": random.below(99_999) },
                "orders": orders,
            })
        })
        .collect();
    json!({ "customers": customers })
}

fn treat(document: &str, seed: usize) -> u64 {
    let mut tree: Value = serde_json::from_str(document).expect("the document is valid JSON");
    let customers = tree["customers"]
        .as_array_mut()
        .expect("customers are an array");
    for customer in customers.iter_mut() {
        customer["seen"] = json!(format!("visit {seed}"));
    }
    customers.retain(|customer| customer["id"].as_u64().is_some_and(|id| id % 7 != 0));
    tree.to_string().len() as u64
}
