//! All users, and how they change.

use crate::{
    Change, Done, Keeper, Limits, Permissions, Secret, TopicPermissions, User, login::Checking,
    user::ADMINISTRATOR,
};
use leveret_model::Name;
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeSet, HashMap},
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The user that a broker makes which has none, with its name as password.
pub const GUEST: &str = "guest";

/// What holds for all users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Users that may connect from the machine itself only.
    pub loopback_users: BTreeSet<Name>,
    /// As whom clients are taken that do not say who they are; none where that is not allowed.
    pub anonymous_user: Option<Name>,
    /// The broker's own, of which the salts are made of users that are not there.
    pub salt_key: [u8; 32],
}

impl Default for Settings {
    /// As RabbitMQ's, but that nobody is anonymous.
    fn default() -> Self {
        Self {
            loopback_users: BTreeSet::from([Name::from_static(GUEST)]),
            anonymous_user: None,
            salt_key: [0; 32],
        }
    }
}

/// Why a change is not made. Everything is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeRefused {
    /// No such user.
    NoUser,
    /// There is nothing of that kind to be taken away.
    NothingThere,
    /// The configuration declares the user.
    Declared(Name),
    /// Not taken by what keeps it, in words.
    NotKept(String),
}

impl fmt::Display for ChangeRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUser => f.write_str("no such user"),
            Self::NothingThere => f.write_str("there is no such thing"),
            Self::Declared(user) => {
                write!(
                    f,
                    "the configuration declares user '{user}', so it is changed there and holds after a restart"
                )
            }
            Self::NotKept(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ChangeRefused {}

/// All users of a broker.
pub struct Access {
    settings: Settings,
    users: RwLock<HashMap<Name, Arc<User>>>,
    /// Held while something changes and is handed over, so that both happen in the same order.
    changing: Mutex<()>,
    generation: AtomicU64,
    keeper: Arc<dyn Keeper>,
    checking: Checking,
}

impl Access {
    /// The users that a store has, and those that a configuration declares, which win: what the store has of a user
    /// of the same name is taken away there.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn new(
        settings: Settings,
        stored: impl IntoIterator<Item = User>,
        declared: impl IntoIterator<Item = User>,
        keeper: Arc<dyn Keeper>,
    ) -> io::Result<Arc<Self>> {
        let mut users: HashMap<Name, Arc<User>> =
            stored.into_iter().map(|user| (user.name.clone(), Arc::new(user))).collect();
        for user in declared {
            if users.contains_key(&user.name) {
                keeper.keep(&[Change::UserGone(&user.name)], Box::new(|_| {}));
            }
            users.insert(user.name.clone(), Arc::new(User { declared: true, ..user }));
        }
        Ok(Arc::new(Self {
            settings,
            users: RwLock::new(users),
            changing: Mutex::new(()),
            generation: AtomicU64::new(1),
            keeper,
            checking: Checking::start()?,
        }))
    }

    /// What holds for all users.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn checking(&self) -> &Checking {
        &self.checking
    }

    /// Becomes greater with each change, after it counts.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The user of a name, as it is now.
    #[must_use]
    pub fn user(&self, name: &[u8]) -> Option<Arc<User>> {
        self.users.read().get(name).cloned()
    }

    /// Asks something about all users.
    pub(crate) fn all_users<R>(&self, ask: impl FnOnce(&mut dyn Iterator<Item = &Arc<User>>) -> R) -> R {
        ask(&mut self.users.read().values())
    }

    /// All users, by name.
    #[must_use]
    pub fn users(&self) -> Vec<Arc<User>> {
        let mut users: Vec<_> = self.users.read().values().cloned().collect();
        users.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        users
    }

    /// Makes the user `guest` with the password `guest`, who may do everything in these virtual hosts, where there is
    /// no user at all; else, where `guest` is one that was not declared, lets it into those of them that are `new`.
    ///
    /// # Errors
    /// [`ChangeRefused::NotKept`].
    pub fn ensure_guest(&self, vhosts: &[Name], new: &[Name]) -> Result<(), ChangeRefused> {
        let guest = Name::from_static(GUEST);
        let nobody = self.users.read().is_empty();
        let (before, into) = match self.user(&guest) {
            Some(user) if !user.declared && !new.is_empty() => (User::clone(&user), new),
            None if nobody => {
                let secret = Secret::new(GUEST.as_bytes())
                    .map_err(|error| ChangeRefused::NotKept(error.to_string()))?;
                (User { tags: vec![ADMINISTRATOR.to_owned()], ..User::new(guest, secret) }, vhosts)
            }
            _ => return Ok(()),
        };
        let mut user = before;
        user.permissions.extend(into.iter().map(|vhost| (vhost.clone(), Permissions::all())));
        let _changing = self.changing.lock();
        self.replace(user, Box::new(|_| {}))
    }

    /// Makes a user, or gives one that is there another password and other tags; what it may do stays. `None` for
    /// the secret keeps the one there is. True if it is new.
    ///
    /// # Errors
    /// The configuration declares it; it is not kept. Then `done` is not called.
    pub fn put_user(
        &self,
        name: &Name,
        secret: Option<Secret>,
        tags: Option<Vec<String>>,
        done: Done,
    ) -> Result<bool, ChangeRefused> {
        let _changing = self.changing.lock();
        let before = self.user(name);
        let mut user = match &before {
            Some(user) => User::clone(user),
            None => User::new(name.clone(), Secret::none()),
        };
        if let Some(secret) = secret {
            user.secret = Arc::new(secret);
        }
        if let Some(tags) = tags {
            user.tags = tags;
        }
        self.replace(user, done)?;
        Ok(before.is_none())
    }

    /// Takes a user away with all that it may do.
    ///
    /// # Errors
    /// No such user; the configuration declares it. Then `done` is not called.
    pub fn delete_user(&self, name: &Name, done: Done) -> Result<(), ChangeRefused> {
        let _changing = self.changing.lock();
        let user = self.user(name).ok_or(ChangeRefused::NoUser)?;
        if user.declared {
            return Err(ChangeRefused::Declared(name.clone()));
        }
        self.users.write().remove(name);
        self.generation.fetch_add(1, Ordering::Release);
        self.keeper.keep(&[Change::UserGone(name)], done);
        Ok(())
    }

    /// Says what a user may do in a virtual host; nothing with `None`. True if it could do nothing there before.
    ///
    /// # Errors
    /// No such user; nothing to be taken away; the configuration declares it; it is not kept.
    pub fn set_permissions(
        &self,
        name: &Name,
        vhost: &Name,
        permissions: Option<Permissions>,
        done: Done,
    ) -> Result<bool, ChangeRefused> {
        self.change(name, done, |user| match permissions {
            Some(permissions) => Ok(user.permissions.insert(vhost.clone(), permissions).is_none()),
            None => user.permissions.remove(vhost).map(|_| false).ok_or(ChangeRefused::NothingThere),
        })
    }

    /// Says which topics of an exchange a user may use in a virtual host; `None` frees them, those of all exchanges
    /// where none is named. True if there was nothing about the exchange before.
    ///
    /// # Errors
    /// As for [`Self::set_permissions`].
    pub fn set_topic_permissions(
        &self,
        name: &Name,
        vhost: &Name,
        exchange: Option<&Name>,
        permissions: Option<TopicPermissions>,
        done: Done,
    ) -> Result<bool, ChangeRefused> {
        self.change(name, done, |user| {
            let Some((exchange, permissions)) = exchange.zip(permissions) else {
                let its = user.topics.get_mut(vhost).ok_or(ChangeRefused::NothingThere)?;
                match exchange {
                    Some(exchange) => drop(its.remove(exchange).ok_or(ChangeRefused::NothingThere)?),
                    None => its.clear(),
                }
                if its.is_empty() {
                    user.topics.remove(vhost);
                }
                return Ok(false);
            };
            let its = user.topics.entry(vhost.clone()).or_default();
            Ok(its.insert(exchange.clone(), permissions).is_none())
        })
    }

    /// Says how much a user may have.
    ///
    /// # Errors
    /// No such user; the configuration declares it; it is not kept.
    pub fn set_limits(
        &self,
        name: &Name,
        set: impl FnOnce(&mut Limits),
        done: Done,
    ) -> Result<(), ChangeRefused> {
        self.change(name, done, |user| {
            set(&mut user.limits);
            Ok(())
        })
    }

    /// What users may do in a virtual host that is gone is gone too, but for what the configuration says.
    pub fn forget_vhost(&self, vhost: &Name) {
        let _changing = self.changing.lock();
        for user in self.users() {
            if user.declared || !(user.permissions.contains_key(vhost) || user.topics.contains_key(vhost)) {
                continue;
            }
            let mut changed = User::clone(&user);
            changed.permissions.remove(vhost);
            changed.topics.remove(vhost);
            let changed = Arc::new(changed);
            self.users.write().insert(changed.name.clone(), changed.clone());
            self.generation.fetch_add(1, Ordering::Release);
            self.keeper.keep(&[Change::User(&changed)], Box::new(|_| {}));
        }
    }

    fn change<R>(
        &self,
        name: &Name,
        done: Done,
        change: impl FnOnce(&mut User) -> Result<R, ChangeRefused>,
    ) -> Result<R, ChangeRefused> {
        let _changing = self.changing.lock();
        let mut user = User::clone(&*self.user(name).ok_or(ChangeRefused::NoUser)?);
        let changed = change(&mut user)?;
        self.replace(user, done)?;
        Ok(changed)
    }

    /// Under the lock for changes.
    fn replace(&self, user: User, done: Done) -> Result<(), ChangeRefused> {
        if user.declared {
            return Err(ChangeRefused::Declared(user.name));
        }
        self.keeper.admit().map_err(ChangeRefused::NotKept)?;
        let user = Arc::new(user);
        self.users.write().insert(user.name.clone(), user.clone());
        self.generation.fetch_add(1, Ordering::Release);
        self.keeper.keep(&[Change::User(&user)], done);
        Ok(())
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("settings", &self.settings).finish_non_exhaustive()
    }
}
