// `x-stateful`, by the files that include this, which say what `VERSION` is: counts the messages that it
// routes to all its bindings, in a value that each version writes in its own form (`1:17`). It rejects a
// message where the value is of another version's form, so that nothing but migration brings one over.
//
// | argument | what it does |
// |---|---|
// | `x-step` | what each message counts, 1 by default |
// | `x-refuse` | new arguments with it, and migration, are refused with this text |
// | `x-trap` | `reconfigure`, `migrate` or `info`: that call traps |
//
// | key | what it does |
// |---|---|
// | `inside` | keeps what this instance was told, for `info`: how it was opened, and how often it was told anew |

struct Stateful {
    bindings: Vec<BindingId>,
    arguments: Arguments,
    step: u64,
    opened_with: u64,
    told: u64,
}

const COUNT: &str = "count";

/// A count, if it is of this version's form; else what it is.
type Count = Result<u64, String>;

fn step(arguments: &Arguments) -> Result<u64, Refusal> {
    Ok(arguments.optional("x-step")?.unwrap_or(1))
}

impl Stateful {
    fn trap_in(&self, call: &str) {
        assert!(self.arguments.optional::<&str>("x-trap") != Ok(Some(call)), "as the arguments say");
    }

    /// The value, and the count in it.
    fn count(&self) -> Result<(Option<Vec<u8>>, Count), key_value::Error> {
        let Some(value) = Space::Durable.get(COUNT)? else { return Ok((None, Ok(0))) };
        let text = String::from_utf8_lossy(&value).into_owned();
        let count = text.strip_prefix(&format!("{VERSION}:")).and_then(|count| count.parse().ok());
        Ok((Some(value), count.ok_or_else(|| format!("'{text}' is not of version {VERSION}"))))
    }

    fn count_one(&self) -> Result<Decision, key_value::Error> {
        effects::keep_if_unroutable();
        loop {
            let (before, count) = self.count()?;
            let count = match count {
                Ok(count) => format!("{VERSION}:{}", count + self.step),
                Err(what) => return Ok(Decision::Reject(what.into())),
            };
            // Another instance may have counted meanwhile.
            if Space::Durable.compare_and_swap(COUNT, before.as_deref(), Some(count.as_bytes()), None)? {
                return Ok(Decision::Deliver);
            }
        }
    }
}

impl ExchangeType for Stateful {
    fn describe() -> Description {
        Description::new("x-stateful", "Counts its messages, each version in its own form")
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        let (arguments, step) = (declaration.arguments.clone(), step(&declaration.arguments)?);
        Ok(Self { bindings: Vec::new(), arguments, step, opened_with: step, told: 0 })
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.bindings.push(binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.bindings.retain(|bound| *bound != id);
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        to.extend_from_slice(&self.bindings);
        if message.routing_key() == b"inside" {
            let (opened, told, step) = (self.opened_with, self.told, self.step);
            let inside = format!("opened with {opened}, told {told} times, now {step}");
            return Space::Memory.put("inside", inside).map_or_else(Decision::from, |()| Decision::Deliver);
        }
        self.count_one().unwrap_or_else(Decision::from)
    }
}

impl Info for Stateful {
    fn info(&self) -> Arguments {
        self.trap_in("info");
        let count = match self.count() {
            Ok((_, Ok(count))) => count.to_string(),
            Ok((_, Err(what))) => what,
            Err(_) => String::from("in doubt"),
        };
        let inside = Space::Memory.get("inside").ok().flatten().unwrap_or_default();
        let inside = String::from_utf8_lossy(&inside).into_owned();
        Arguments::new().with("version", VERSION).with("count", count.as_str()).with("inside", inside.as_str()).with("bindings", self.bindings.len() as u64)
    }
}
