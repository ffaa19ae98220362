//! A program: a component of the world `wasi:cli/command`, which has nothing to do with exchanges.

fn main() {
    println!("hello");
}
