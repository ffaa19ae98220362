//! The frames of SASL (section 5.3.3).

use crate::{
    composite::{
        Symbols,
        table::{choices, composite, one_of},
    },
    descriptor,
    types::{DecodeError, Reader, Symbol},
};

composite! {
    /// What may be chosen (5.3.3.1).
    Mechanisms<'a> = descriptor::SASL_MECHANISMS {
        /// Mechanisms, the preferred ones first.
        sasl_server_mechanisms: Symbols<'a>, mandatory;
    }

    /// The choice (5.3.3.2).
    Init<'a> = descriptor::SASL_INIT {
        /// The mechanism.
        mechanism: Symbol<'a>, mandatory;
        /// What it begins with.
        initial_response: &'a [u8], optional;
        /// The host that the client means.
        hostname: &'a str, optional;
    }

    /// A question of the mechanism (5.3.3.3).
    Challenge<'a> = descriptor::SASL_CHALLENGE {
        /// What it asks.
        challenge: &'a [u8], mandatory;
    }

    /// The answer to it (5.3.3.4).
    Response<'a> = descriptor::SASL_RESPONSE {
        /// What it says.
        response: &'a [u8], mandatory;
    }

    /// The end of it (5.3.3.6).
    Outcome<'a> = descriptor::SASL_OUTCOME {
        /// What came of it.
        code: Code, mandatory;
        /// What the mechanism says besides.
        additional_data: &'a [u8], optional;
    }
}

one_of! {
    /// What a frame of SASL says.
    SaslFrame<'a> {
        /// The server offers mechanisms.
        Mechanisms(Mechanisms<'a>),
        /// The client chooses one.
        Init(Init<'a>),
        /// The server asks.
        Challenge(Challenge<'a>),
        /// The client answers.
        Response(Response<'a>),
        /// The server ends it.
        Outcome(Outcome<'a>),
    }
}

impl<'a> SaslFrame<'a> {
    /// Of a frame's body.
    ///
    /// # Errors
    /// If it is none of them, or a field is not what it should be.
    pub fn from_body(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let frame = Self::decode(&mut reader)?;
        if reader.is_empty() { Ok(frame) } else { Err(DecodeError::Trailing(frame.name())) }
    }
}

choices! {
    /// What came of a login (5.3.3.5).
    Code: Ubyte {
        /// It succeeded.
        #[default]
        Ok = 0,
        /// Who the client says it is, or its proof, was wrong.
        Auth = 1,
        /// Something went wrong here.
        Sys = 2,
        /// Something that will not get better.
        SysPerm = 3,
        /// Something that may get better.
        SysTemp = 4,
    }
}
