//! An interceptor `evil`, which misbehaves as its argument `how` says: in `intercept` for the routing key
//! `evil`, and with `open WAY` when it is attached; with `slow WAY` that takes it some hundred milliseconds.
//! Other messages pass.
//!
//! | way | what it does |
//! |---|---|
//! | `trap`, `loop`, `memory` | panics; never returns; takes memory without end |
//! | `changes` | makes 300 changes |
//! | `bytes` | sets headers of two mebibytes together |
//! | `values` | sets a header that is a list of 100,000 values |
//! | `body` | sets the body, which needs a grant |
//! | `not-a-number` | sets a header that is no number |
//! | `class` | gives the priority a text |
//! | `drop` | drops, for a reason of a mebibyte that would be several lines |
//! | `spam` | (no matter which message) 1,000 lines on standard error |

use leveret_sdk::{
    Attachment, Interceptor, InterceptorDescription, Message, Patch, Point, Property, Reads, Refusal, Value,
    Verdict,
};
use std::hint::black_box;

struct Evil {
    how: String,
}

fn misbehave(way: &str) {
    match way {
        "trap" => panic!("asked to trap"),
        "loop" => loop {
            black_box(());
        },
        "memory" => {
            let mut hoard = Vec::new();
            loop {
                // Untouched: the limit of memory is to come before that of time.
                hoard.push(black_box(Vec::<u8>::with_capacity(1 << 20)));
            }
        }
        _ => {}
    }
}

impl Interceptor for Evil {
    fn describe() -> InterceptorDescription {
        InterceptorDescription::new("evil", "Misbehaves as it is told to", Point::Publish)
            .at(Point::Deliver)
            .at(Point::DeadLetter)
    }

    fn open(attachment: &Attachment) -> Result<Self, Refusal> {
        let how: &str = attachment.arguments.required("how")?;
        if let Some(way) = how.strip_prefix("open ") {
            misbehave(way);
        }
        let after_a_while = how.strip_prefix("slow ");
        if after_a_while.is_some() {
            for round in 0..400_000_000_u32 {
                black_box(round);
            }
        }
        Ok(Self { how: after_a_while.unwrap_or(how).into() })
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn intercept(&mut self, message: &Message<'_>) -> Verdict {
        if self.how == "spam" {
            (0..1_000).for_each(|line| eprintln!("line {line}"));
        }
        if message.routing_key() != b"evil" {
            return Verdict::Pass;
        }
        misbehave(&self.how);
        let header = |patch: Patch, number: usize, value: &str| patch.set_header(format!("h{number}"), value);
        match self.how.as_str() {
            "changes" => (0..300).fold(Patch::new(), |patch, number| header(patch, number, "")).into(),
            "bytes" => {
                let value = "x".repeat(1 << 16);
                (0..32).fold(Patch::new(), |patch, number| header(patch, number, &value)).into()
            }
            "values" => {
                let mut list = vec![0x07];
                list.extend(100_000_u32.to_le_bytes());
                list.extend([0; 100_000]);
                Patch::new().set_header("list", Value::from_flat(&list).unwrap_or(Value::Void)).into()
            }
            // A list of one truth.
            "list" => {
                let list = Value::from_flat(&[0x07, 2, 0, 0, 0, 0x01, 1]).unwrap_or(Value::Void);
                Patch::new().set_header("list", list).into()
            }
            "body" => Patch::new().set_body("another one").into(),
            "not-a-number" => Patch::new().set_header("not-a-number", f64::NAN).into(),
            "class" => Patch::new().set_property(Property::Priority, "high").into(),
            "drop" => {
                Verdict::Drop("no\n2026-01-01T00:00:00Z  INFO leveret: forged line".repeat(20_000).into())
            }
            _ => Verdict::Pass,
        }
    }
}

leveret_sdk::export_interceptors!(Evil);
