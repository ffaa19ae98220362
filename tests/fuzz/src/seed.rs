//! Writes the inputs that our own encoders make: `cargo run --bin seed`, in this folder.

use leveret_fuzz::seeds;
use std::path::Path;

fn main() -> std::io::Result<()> {
    for (target, name, bytes) in seeds::all() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
