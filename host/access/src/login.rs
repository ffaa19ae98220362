//! From what somebody claims to be to an identity. Passwords that take long to check are checked on threads of
//! their own: the workers of a broker go on meanwhile.

use crate::{Access, Rights, Secret, User};
use leveret_model::Name;
use parking_lot::Mutex;
use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, LazyLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

/// How many passwords wait to be checked at most; more are refused. Those who log in with a password that was right
/// before do not wait.
const WAITING_MAX: usize = 4096;
/// How many passwords are checked at a time, with 19 MiB each.
const THREADS: usize = 2;

/// How much nicer these threads are than the workers: whoever tries many passwords is to hold up nobody else.
const NICE: i32 = 10;

/// What somebody claims, by whichever protocol.
#[derive(Clone, Copy)]
pub enum Claim<'a> {
    /// A user with its password (PLAIN, AMQPLAIN, HTTP basic).
    Password {
        /// The name.
        user: &'a [u8],
        /// The password.
        password: &'a [u8],
    },
    /// Nobody in particular (ANONYMOUS): the user that the settings name, if they do.
    Anonymous,
    /// A user whose name something else has proved, as a certificate (EXTERNAL).
    Proved {
        /// The name.
        user: &'a [u8],
    },
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password of {:?}", user.escape_ascii().to_string()),
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Proved { user } => write!(f, "Proved {:?}", user.escape_ascii().to_string()),
        }
    }
}

/// Why somebody is not let in. Whoever tells it to a client tells no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginFailure {
    /// No such user, the wrong password, or nobody may log in like that.
    Refused,
    /// The user may connect from the machine itself only.
    LoopbackOnly,
    /// Too many passwords wait to be checked.
    Busy,
}

impl fmt::Display for LoginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "wrong user or password",
            Self::LoopbackOnly => "this user may connect from the machine itself only",
            Self::Busy => "too many passwords wait to be checked",
        })
    }
}

/// Somebody whose claim was right.
#[derive(Clone, Debug)]
pub struct Identity {
    user: Arc<User>,
}

impl Identity {
    /// The user's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.user.name
    }

    /// The user as it was then.
    #[must_use]
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// What it may do in a virtual host.
    #[must_use]
    pub fn rights(&self, access: &Arc<Access>, vhost: &Name) -> Rights {
        Rights::new(access.clone(), self.user.name.clone(), vhost.clone())
    }
}

/// What a claim comes to.
pub type Outcome = Result<Identity, LoginFailure>;

/// Where passwords are checked.
pub(crate) struct Checking(SyncSender<Job>);

type Job = Box<dyn FnOnce() + Send>;

impl Checking {
    /// Starts the threads, which end when this is dropped.
    ///
    /// # Errors
    /// The system gives none.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..THREADS {
            let waiting = waiting.clone();
            std::thread::Builder::new().name("passwords".to_owned()).spawn(move || work(&waiting))?;
        }
        Ok(Self(jobs))
    }

    fn run(&self, job: Job) -> Result<(), LoginFailure> {
        self.0.try_send(job).map_err(|_| LoginFailure::Busy)
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    // Of this thread, on Linux. Where it is not taken passwords are checked all the same.
    let _ = rustix::process::setpriority_process(None, NICE);
    loop {
        let job = waiting.lock().recv();
        match job {
            Ok(job) => job(),
            Err(_) => break,
        }
    }
}

impl Access {
    /// Judges a claim that comes from `peer`. What can be said at once is returned; else `None`, and `done` is called
    /// once on another thread.
    pub fn authenticate(
        &self,
        claim: Claim<'_>,
        peer: IpAddr,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) -> Option<Outcome> {
        let (name, password) = match claim {
            Claim::Password { user, password } => (user, Some(password)),
            Claim::Proved { user } => (user, None),
            Claim::Anonymous => match &self.settings().anonymous_user {
                Some(user) => (user.as_bytes(), None),
                None => return Some(Err(LoginFailure::Refused)),
            },
        };
        let is_remote = self.is_too_remote(name, peer);
        let admit = move |user: Arc<User>| admit(user, is_remote);
        let user = self.user(name);
        let Some(password) = password else {
            return Some(user.map_or(Err(LoginFailure::Refused), admit));
        };
        // For a user that is not there as much is done, so that the time does not tell which there are.
        let secret = user.as_ref().map_or_else(|| NOBODY.clone(), |user| user.secret.clone());
        let judge = move |is_right: bool| match (is_right, user) {
            (true, Some(user)) => admit(user),
            _ => Err(LoginFailure::Refused),
        };
        if let Some(is_right) = secret.knows(password) {
            return Some(judge(is_right));
        }
        let password = password.to_vec();
        self.checking().run(Box::new(move || done(judge(secret.is(&password))))).err().map(Err)
    }
}

impl Access {
    fn is_too_remote(&self, user: &[u8], peer: IpAddr) -> bool {
        self.settings().loopback_users.contains(user) && !peer.to_canonical().is_loopback()
    }

    /// Lets a user in that has proved who it is, if it may come from there.
    pub(crate) fn admit(&self, user: Arc<User>, peer: IpAddr) -> Outcome {
        let is_remote = self.is_too_remote(&user.name, peer);
        admit(user, is_remote)
    }
}

fn admit(user: Arc<User>, is_too_remote: bool) -> Outcome {
    if is_too_remote { Err(LoginFailure::LoopbackOnly) } else { Ok(Identity { user }) }
}

/// What passwords of users are compared with that are not there: nobody knows the right one.
static NOBODY: LazyLock<Arc<Secret>> = LazyLock::new(|| {
    let mut password = [0; 32];
    let secret = match getrandom::fill(&mut password) {
        Ok(()) => Secret::hashed(&password).unwrap_or_else(|_| Secret::none()),
        Err(_) => Secret::none(),
    };
    Arc::new(secret)
});

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};

    #[test]
    fn passwords_are_checked_at_a_lower_priority_than_all_else() {
        let checking = Checking::start().unwrap();
        let (told, priority) = mpsc::channel();
        let job = move || told.send(rustix::process::getpriority_process(None).unwrap()).unwrap();
        checking.run(Box::new(job)).unwrap();
        let its = priority.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(its >= NICE && its > rustix::process::getpriority_process(None).unwrap(), "{its}");
    }
}
