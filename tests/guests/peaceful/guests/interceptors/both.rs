// Two interceptors for every point, by the files that include this, which say what `VERSION` is.
//
// `append`: sets a header to what it was with a text behind it; `%` in the text is the version.
// `by-key`: does what the routing key says.

struct Append {
    header: Vec<u8>,
    value: String,
}

impl Interceptor for Append {
    fn describe() -> InterceptorDescription {
        InterceptorDescription::new("append", "Appends a text to a header", Point::Publish)
            .at(Point::Deliver)
            .at(Point::DeadLetter)
            .required_argument("header", Kind::Text, "the header")
            .required_argument("value", Kind::Text, "the text")
            .pure()
    }

    fn open(attachment: &Attachment) -> Result<Self, Refusal> {
        let header: &str = attachment.arguments.required("header")?;
        let value: &str = attachment.arguments.required("value")?;
        if value.is_empty() {
            return Err(Refusal::invalid_argument("value", "must not be empty"));
        }
        Ok(Self { header: header.as_bytes().to_vec(), value: value.replace('%', VERSION) })
    }

    fn reads(&self) -> Reads {
        Reads::nothing().header(self.header.clone())
    }

    fn intercept(&mut self, message: &Message<'_>) -> Verdict {
        let before = match message.header(&self.header) {
            Some(Value::Text(before)) => before,
            _ => "",
        };
        Patch::new().set_header(&self.header, format!("{before}{}", self.value).as_str()).into()
    }
}

struct ByKey;

impl Interceptor for ByKey {
    fn describe() -> InterceptorDescription {
        InterceptorDescription::new("by-key", "Does what the routing key says", Point::Publish)
            .at(Point::Deliver)
            .at(Point::DeadLetter)
            .pure()
    }

    fn open(_: &Attachment) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn intercept(&mut self, message: &Message<'_>) -> Verdict {
        match message.routing_key() {
            b"drop" => Verdict::Drop("asked to".into()),
            b"reject" => Verdict::Reject("asked to".into()),
            b"trap" => panic!("asked to"),
            b"move" => Patch::new().set_routing_key("moved").into(),
            b"body" => Patch::new().set_body("replaced").into(),
            _ => Verdict::Pass,
        }
    }
}

export_interceptors!(Append, ByKey);
