//! Where the instructions of a message are: by the crate, or what else they belong to, of the function that they are in.
//!
//! Callgrind tells them by function, in a file; what is inlined counts for the function that it is in. Code that belongs to
//! no file is that of components.

use crate::{ARMS, BATCH, KINDS, ROUNDS, counted_by};
use std::{collections::BTreeMap, fs};

/// Less than this a message is shown with all others.
const SHOWN_MIN: f64 = 1.0;

/// Prints the parts of each arm of a type.
///
/// # Errors
/// What could not be counted, for people to read.
pub(crate) fn print(type_name: &str, by_function: bool) -> Result<(), String> {
    let kind = KINDS.iter().find(|kind| kind.type_name == type_name);
    let kind = kind.ok_or_else(|| format!("there is no type '{type_name}' here"))?;
    let file = std::env::temp_dir().join(format!("leveret-twin-{}.callgrind", std::process::id()));
    let mut table: BTreeMap<String, [f64; 4]> = BTreeMap::new();
    for (at, arm) in ARMS.iter().enumerate() {
        counted_by(kind.type_name, arm, Some(&file))?;
        let told = fs::read_to_string(&file).expect("what callgrind wrote");
        for (function, count) in Told::default().read(&told) {
            let part = if by_function { function.to_string() } else { part_of(&function) };
            table.entry(part).or_default()[at] += count as f64 / (BATCH * ROUNDS) as f64;
        }
    }
    fs::remove_file(&file).expect("the file is there");
    println!("Instructions of a message, {type_name}, by {}.", if by_function { "function" } else { "part" });
    let row = |part: &str, counts: &[f64; 4]| {
        let counts = counts.map(|count| format!("{count:>10.1}")).concat();
        println!("{counts}  {part}");
    };
    println!(
        "{}",
        ARMS.map(|arm| format!("{:>10}", arm.replace("component", "comp.").replace("remembered", "rem.")))
            .concat()
    );
    let (shown, others): (Vec<_>, Vec<_>) =
        table.into_iter().partition(|(_, counts)| counts.iter().any(|count| *count >= SHOWN_MIN));
    let mut shown = shown;
    shown.sort_by(|(_, a), (_, b)| b[1].total_cmp(&a[1]));
    shown.iter().for_each(|(part, counts)| row(part, counts));
    let sum = |rows: &[(String, [f64; 4])]| {
        std::array::from_fn(|at| rows.iter().map(|(_, counts)| counts[at]).sum())
    };
    row("others", &sum(&others));
    row("all", &std::array::from_fn(|at| sum(&shown)[at] + sum(&others)[at]));
    Ok(())
}

/// A function as callgrind knows it.
struct Function {
    /// The program or library that it is in.
    object: String,
    name: String,
}

impl std::fmt::Display for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let object = self.object.rsplit('/').next().unwrap_or_default();
        write!(f, "{} ({object})", self.name)
    }
}

/// What a function belongs to.
fn part_of(function: &Function) -> String {
    const PARTS: [(&str, &str); 14] = [
        ("wasmtime", "wasmtime"),
        ("leveret_plugin", "plugin host"),
        ("leveret_exchange", "exchange type, native"),
        ("leveret_sdk", "exchange type, native"),
        ("leveret_twin", "twin"),
        ("leveret_amqp091", "protocol"),
        ("leveret_model", "model"),
        ("leveret_instructions", "connection"),
        ("leveret_broker", "broker"),
        ("malloc", "allocator"),
        ("free", "allocator"),
        ("realloc", "allocator"),
        ("mem", "memcpy and memcmp"),
        ("bcmp", "memcpy and memcmp"),
    ];
    if function.object == "???" {
        return String::from("component");
    }
    let found = PARTS.iter().find(|(word, _)| function.name.contains(word));
    found.map_or_else(|| function.to_string(), |(_, part)| String::from(*part))
}

/// Reads callgrind's file: <https://valgrind.org/docs/manual/cl-format.html>.
#[derive(Default)]
struct Told {
    /// Names by their numbers, of objects and of functions: each is said once.
    objects: BTreeMap<String, String>,
    functions: BTreeMap<String, String>,
}

impl Told {
    /// The instructions in each function, without those that it calls.
    fn read(mut self, told: &str) -> Vec<(Function, u64)> {
        let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
        let (mut object, mut function) = (String::new(), String::new());
        let mut is_of_call = false;
        for line in told.lines() {
            if let Some((what, name)) = line.split_once('=') {
                match what {
                    "ob" => object = named(&mut self.objects, name),
                    "cob" => drop(named(&mut self.objects, name)),
                    "fn" => function = named(&mut self.functions, name),
                    "cfn" => drop(named(&mut self.functions, name)),
                    "calls" => is_of_call = true,
                    _ => {}
                }
            } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
                // What a call took is that function's.
                let count = line.split_whitespace().nth(1).and_then(|count| count.parse::<u64>().ok());
                if !std::mem::take(&mut is_of_call) {
                    *counts.entry((object.clone(), function.clone())).or_default() += count.unwrap_or(0);
                }
            }
        }
        let function = |((object, name), count)| (Function { object, name }, count);
        counts.into_iter().map(function).collect()
    }
}

/// `(7) name` where it comes first, `(7)` later.
fn named(names: &mut BTreeMap<String, String>, said: &str) -> String {
    let Some((number, name)) = said.split_once(')') else { return String::from(said) };
    if !name.is_empty() {
        names.insert(String::from(number), String::from(name.trim()));
    }
    names.get(number).cloned().unwrap_or_default()
}
