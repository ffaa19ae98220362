//! `x-fixed`, pure, and `x-turns`, impure: what the boundary costs without a guest's own work.

use leveret_guests_peaceful::{Fixed, Turns};

leveret_sdk::export!(Fixed, Turns);
