// What versions after the first can: take new arguments, and what another version counted.

impl Reconfigure for Stateful {
    fn reconfigure(&mut self, arguments: &Arguments) -> Result<(), Refusal> {
        if let Some(text) = arguments.optional::<&str>("x-refuse")? {
            return Err(text.into());
        }
        if arguments.optional::<&str>("x-trap")? == Some("reconfigure") {
            panic!("as the arguments say");
        }
        self.step = step(arguments)?;
        self.arguments = arguments.clone();
        self.told += 1;
        Ok(())
    }
}

impl Migrate for Stateful {
    fn migrate(&mut self, from_version: &str) -> Result<(), String> {
        self.trap_in("migrate");
        let failed = |error: key_value::Error| error.to_string();
        let value = Space::Durable.get(COUNT).map_err(failed)?.ok_or("there is nothing to migrate")?;
        let text = String::from_utf8_lossy(&value).into_owned();
        let count = text.strip_prefix(&format!("{from_version}:")).ok_or(format!("'{text}' is strange"))?;
        // Written before it may be refused: nothing of it may be seen then.
        Space::Durable.put(COUNT, format!("{VERSION}:{count}")).map_err(failed)?;
        Space::Memory.put("migrated from", from_version).map_err(failed)?;
        match self.arguments.optional::<&str>("x-refuse") {
            Ok(Some(text)) => Err(text.to_owned()),
            _ => Ok(()),
        }
    }
}
