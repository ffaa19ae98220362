// `x-evil`, by the files that include this, each a version of its own: a direct exchange that misbehaves in whichever function it is told to, and exports every
// interface of an exchange type.
//
// The argument `x-evil` of the exchange says how: `FUNCTION WAY`, and more of these after `;`. In
// `bind`, `unbind`, `bound` and `unbound` it obeys for bindings with the key `evil` alone, in `route` for
// the routing key `evil`, in the other functions always.
//
// | way | what it does |
// |---|---|
// | `trap`, `loop`, `memory`, `recurse` | panics; never returns; takes memory, or stack, without end |
// | `refuse` | refuses with a text of a mebibyte that would be several lines of the log |
// | `reads` | reads 2,000 headers by name |
// | `inner` | says that it is its own inner type; with `inner-many`, an inner type with 2,000 arguments |
// | `ids` | (`route`, `bound`) names 200,000 bindings, or a stored message as often |
// | `forge` | (`route`, `bound`) names bindings, or stored messages, that it was never given |
// | `drop`, `reject` | (`route`) for a reason as long as that text |
// | `reasons` | (`route`) drops, for another reason each time |
// | `hold` | (`route`) holds for ever |
// | `emit`, `enqueue`, `set`, `put`, `keep` | (`route`, `info`, `reconfigure`, `migrate`) does so 20,000 times |
// | `note` | (`route`, `info`, `reconfigure`, `migrate`) keeps one value, so that there is state to migrate |
// | `cancel` | (`route`) cancels the first 100 numbers that a held message may have |
// | `spam` | (`route`) 20,000 lines, metrics, and counts; and a gauge that is no number |
// | `timer` | (`route`) sets a timer that is due at once |
// | `fields` | (`info`) shows 1,000 fields; with `list`, one that is a list of 100,000 values; with `large`, 20 that have 20 MiB together |

struct Evil {
    bindings: BindingIndex,
    orders: Vec<(String, String)>,
    turns: u64,
}

/// Lines that pretend to be the broker's.
fn long_text() -> String {
    "no\n2026-01-01T00:00:00Z  INFO leveret: forged line \u{1b}[31m".repeat(20_000)
}

#[allow(unconditional_recursion, reason = "that is what it is for")]
fn deeper(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    room.iter().sum::<u64>().wrapping_add(deeper(depth.wrapping_add(1))) ^ depth
}

/// The ways that are possible everywhere.
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
        "recurse" => {
            black_box(deeper(1));
        }
        _ => {}
    }
}

impl Evil {
    fn ways<'a>(&'a self, function: &'a str) -> impl Iterator<Item = &'a str> {
        self.orders.iter().filter(move |(of, _)| of == function).map(|(_, way)| way.as_str())
    }

    /// Whether it is told to do that there.
    fn is_told(&self, function: &str, way: &str) -> bool {
        self.ways(function).any(|told| told == way)
    }

    fn obey(&self, function: &str) {
        self.ways(function).for_each(misbehave);
    }

    /// What a function that is to have no effects wants to do all the same.
    fn overdo(&self, function: &str) {
        self.obey(function);
        self.ways(function).for_each(effects);
    }

    fn refuse(&self, function: &str) -> Result<(), Refusal> {
        if self.is_told(function, "refuse") {
            Err(Refusal::invalid_argument("x-evil", long_text()))
        } else {
            Ok(())
        }
    }
}

impl ExchangeType for Evil {
    fn describe() -> Description {
        Description::new("x-evil", "Misbehaves where it is told to")
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        let orders = declaration.arguments.optional::<&str>("x-evil")?.unwrap_or_default();
        let orders = orders.split(';').filter_map(|order| order.trim().split_once(' '));
        let orders = orders.map(|(function, way)| (function.into(), way.into())).collect();
        let open = Self { bindings: BindingIndex::new(), orders, turns: 0 };
        open.obey("open");
        open.refuse("open")?;
        Ok(open)
    }

    fn reads(&self) -> Reads {
        let reads = Reads::nothing().routing_key();
        if self.is_told("open", "reads")
            || (self.is_told("bind", "reads") && !self.bindings.get(b"evil".as_slice()).is_empty())
        {
            return reads.only_headers((0..2_000).map(|number| format!("h{number}")));
        }
        reads
    }

    fn inner(&self) -> Option<InnerType> {
        if self.is_told("open", "inner") {
            return Some(
                InnerType::new("x-evil").with_arguments(Arguments::new().with("x-evil", "open inner")),
            );
        }
        let many = self.is_told("open", "inner-many");
        let arguments =
            (0..if many { 2_000 } else { 0 }).fold(Arguments::new(), |all, n| all.with(n.to_string(), n));
        (many || self.is_told("route", "hold")).then(|| InnerType::new("direct").with_arguments(arguments))
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        if binding.routing_key == b"evil" {
            self.obey("bind");
            self.refuse("bind")?;
        }
        self.bindings.insert(binding.routing_key, binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        if self.bindings.get(b"evil".as_slice()).contains(&id) {
            self.obey("unbind");
        }
        self.bindings.remove(id);
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        self.turns += 1;
        if message.routing_key() == b"evil" {
            self.obey("route");
            let ways: Vec<String> = self.ways("route").map(String::from).collect();
            for way in ways {
                match way.as_str() {
                    "drop" => return Decision::Drop(long_text().into()),
                    "reject" => return Decision::Reject(long_text().into()),
                    "reasons" => return Decision::Drop(format!("reason {}", self.turns).into()),
                    "hold" => return Decision::Hold(Duration::from_secs(u64::MAX / 1_000)),
                    "ids" => to.extend((0..200_000).map(BindingId)),
                    "forge" => to.extend([0, 1, 2, u64::MAX, 1 << 32, 7 << 32 | 1].map(BindingId)),
                    way => effects(way),
                }
            }
        }
        to.extend_from_slice(self.bindings.get(message.routing_key()));
        Decision::Deliver
    }
}

/// Effects without end, and more.
fn effects(way: &str) {
    match way {
        "cancel" => (0..100).for_each(|id| holds::cancel(holds::HeldId(id))),
        "timer" => timers::set("due", Duration::ZERO),
        "note" => drop(Space::Durable.put("note", "1")),
        _ => {}
    }
    for number in 0..20_000_u32 {
        let name = number.to_string();
        match way {
            "emit" => emit::publish_copy("amq.fanout", "evil"),
            "enqueue" => enqueue::enqueue_copy("victim"),
            "set" => timers::set(&name, Duration::from_secs(1_000_000)),
            "put" => drop(Space::Memory.put(&name, "value")),
            "keep" => drop(message_store::keep(if number == 0 { "kept" } else { &name }, u32::MAX)),
            "spam" => {
                log::info!("{name}");
                metric::count(&name, 1);
                metric::gauge("not a number", f64::NAN);
            }
            _ => return,
        }
    }
}

impl Events for Evil {
    fn bound(&mut self, binding: &Binding) -> Vec<StoredId> {
        if binding.routing_key != b"evil" {
            return message_store::of_key("kept", 1);
        }
        self.obey("bound");
        if self.is_told("bound", "ids") {
            let first = message_store::of_key("kept", 1);
            return first.iter().cycle().take(200_000).copied().collect();
        }
        if self.is_told("bound", "forge") { (0..1_000).map(StoredId).collect() } else { Vec::new() }
    }

    fn unbound(&mut self, binding: &Binding) {
        if binding.routing_key == b"evil" {
            self.obey("unbound");
        }
    }
}

impl Timers for Evil {
    fn timer(&mut self, _: &[u8]) {
        self.obey("timer");
    }
}

impl Info for Evil {
    fn info(&self) -> Arguments {
        self.overdo("info");
        if self.is_told("info", "list") {
            let mut list = vec![0x07];
            list.extend(100_000_u32.to_le_bytes());
            list.extend([0; 100_000]);
            return Arguments::new().with("list", Value::from_flat(&list).unwrap_or(Value::Void));
        }
        if self.is_told("info", "large") {
            let text = "x".repeat(1 << 20);
            return (0..20).fold(Arguments::new(), |all, n| all.with(format!("f{n}"), text.as_str()));
        }
        let fields = if self.is_told("info", "fields") { 1_000 } else { 0 };
        let info = Arguments::new().with("no number", f64::NAN);
        (0..fields).fold(info, |info, number| {
            info.with(format!("f{number}"), long_text().as_str().get(..64).unwrap_or(""))
        })
    }
}

impl Reconfigure for Evil {
    fn reconfigure(&mut self, _: &Arguments) -> Result<(), Refusal> {
        self.overdo("reconfigure");
        self.refuse("reconfigure")
    }
}

impl Migrate for Evil {
    fn migrate(&mut self, _: &str) -> Result<(), String> {
        self.overdo("migrate");
        if self.is_told("migrate", "refuse") { Err(long_text()) } else { Ok(()) }
    }
}

/// `close` has no function in the SDK: it drops the exchange.
impl Drop for Evil {
    fn drop(&mut self) {
        self.obey("close");
    }
}
