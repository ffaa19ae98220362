//! Users, what they may do, and how a live connection sees that change.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use leveret_access::{
    Access, Algorithm, Change, ChangeRefused, Claim, Done, GUEST, Identity, Keeper, LoginFailure, Nowhere,
    Operation, Permissions, Secret, Settings, TopicPermissions, User,
};
use leveret_model::Name;
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

/// Longer than any check of a password takes.
const WAIT_MAX: Duration = Duration::from_secs(60);
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn name(name: &str) -> Name {
    Name::new(name.as_bytes()).unwrap()
}

fn nobody_waits() -> Done {
    Box::new(|_| {})
}

fn access() -> Arc<Access> {
    Access::new(Settings::default(), [], [], Arc::new(Nowhere)).unwrap()
}

/// The outcome of a claim, whether it is known at once or not.
fn judge(access: &Access, claim: Claim<'_>, peer: IpAddr) -> Result<Identity, LoginFailure> {
    let (told, outcome) = mpsc::channel();
    let at_once = access.authenticate(claim, peer, move |outcome| told.send(outcome).unwrap());
    at_once.unwrap_or_else(|| outcome.recv_timeout(WAIT_MAX).unwrap())
}

fn password<'a>(user: &'a str, password: &'a str) -> Claim<'a> {
    Claim::Password { user: user.as_bytes(), password: password.as_bytes() }
}

fn permissions(configure: &str, write: &str, read: &str) -> Option<Permissions> {
    Some(Permissions::new(configure, write, read).unwrap())
}

/// What was handed over, in words.
#[derive(Default)]
struct Kept(Mutex<Vec<String>>, Mutex<Option<String>>);

impl Keeper for Kept {
    fn admit(&self) -> Result<(), String> {
        self.1.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn keep(&self, changes: &[Change<'_>], done: Done) {
        self.0.lock().unwrap().extend(changes.iter().map(|change| match change {
            Change::User(user) => format!("{} {:?} {}", user.name, user.tags, user.permissions.len()),
            Change::UserGone(name) => format!("-{name}"),
        }));
        done(Ok(()));
    }
}

#[test]
fn guest_is_made_where_there_is_nobody_and_comes_from_the_machine_itself() {
    let access = access();
    access.ensure_guest(&[name("/")], &[name("/")]).unwrap();
    let far = IpAddr::from([192, 0, 2, 1]);
    let guest = judge(&access, password("guest", "guest"), LOOPBACK).unwrap();
    assert!(guest.rights(&access, &name("/")).may_enter());
    assert!(!guest.rights(&access, &name("other")).may_enter());
    assert!(judge(&access, password("guest", "guest"), "::ffff:127.0.0.1".parse().unwrap()).is_ok());
    assert_eq!(judge(&access, password("guest", "guest"), far).unwrap_err(), LoginFailure::LoopbackOnly);
    assert_eq!(judge(&access, password("guest", "wrong"), far).unwrap_err(), LoginFailure::Refused);
    assert_eq!(judge(&access, password("", ""), LOOPBACK).unwrap_err(), LoginFailure::Refused);
    access.put_user(&name("alice"), Some(Secret::new(b"a").unwrap()), None, nobody_waits()).unwrap();
    access.delete_user(&name(GUEST), nobody_waits()).unwrap();
    access.ensure_guest(&[name("/")], &[name("/")]).unwrap();
    assert!(access.user(GUEST.as_bytes()).is_none());
    assert!(judge(&access, password("alice", "a"), far).is_ok());
}

#[test]
fn a_password_is_checked_once_on_another_thread_and_known_then() {
    let text = Secret::new(b"secret").unwrap().text();
    let user = User::new(name("u"), Secret::read(Algorithm::Argon2id, &text).unwrap());
    let access = Access::new(Settings::default(), [user], [], Arc::new(Nowhere)).unwrap();
    let (told, outcomes) = mpsc::channel();
    for password in ["secret", "wrong", "secret"] {
        let claim = Claim::Password { user: b"u", password: password.as_bytes() };
        let told = told.clone();
        assert!(
            access
                .authenticate(claim, LOOPBACK, move |outcome| told.send((password, outcome)).unwrap())
                .is_none()
        );
    }
    for _ in 0..3 {
        let (password, outcome) = outcomes.recv_timeout(WAIT_MAX).unwrap();
        assert_eq!(outcome.is_ok(), password == "secret");
    }
    let at_once = access.authenticate(password("u", "secret"), LOOPBACK, |_| panic!("it was known"));
    assert!(at_once.unwrap().is_ok());
    // Another password, and the old one is not remembered.
    access.put_user(&name("u"), Some(Secret::new(b"other").unwrap()), None, nobody_waits()).unwrap();
    assert_eq!(judge(&access, password("u", "secret"), LOOPBACK).unwrap_err(), LoginFailure::Refused);
    assert!(judge(&access, password("u", "other"), LOOPBACK).is_ok());
    assert_eq!(judge(&access, password("nobody", "secret"), LOOPBACK).unwrap_err(), LoginFailure::Refused);
}

#[test]
fn who_is_anonymous_or_proved_needs_a_user() {
    let users = || [User::new(name("u"), Secret::none())];
    let access = Access::new(Settings::default(), users(), [], Arc::new(Nowhere)).unwrap();
    assert_eq!(judge(&access, Claim::Anonymous, LOOPBACK).unwrap_err(), LoginFailure::Refused);
    assert!(judge(&access, Claim::Proved { user: b"u" }, LOOPBACK).is_ok());
    assert!(judge(&access, Claim::Proved { user: b"v" }, LOOPBACK).is_err());
    let settings = Settings { anonymous_user: Some(name("u")), ..Settings::default() };
    let access = Access::new(settings, users(), [], Arc::new(Nowhere)).unwrap();
    assert_eq!(judge(&access, Claim::Anonymous, LOOPBACK).unwrap().name(), &name("u"));
    assert!(judge(&access, password("u", ""), LOOPBACK).is_err());
}

#[test]
fn live_rights_follow_what_changes() {
    let access = access();
    let (user, vhost) = (name("u"), name("/"));
    access.put_user(&user, Some(Secret::new(b"p").unwrap()), None, nobody_waits()).unwrap();
    access
        .set_permissions(&user, &vhost, permissions("^c", "^(w|amq\\.default$)", ""), nobody_waits())
        .unwrap();
    let mut rights = judge(&access, password("u", "p"), LOOPBACK).unwrap().rights(&access, &vhost);
    assert!(rights.may(Operation::Configure, b"cx") && !rights.may(Operation::Configure, b"xc"));
    assert!(rights.may(Operation::Write, b"") && !rights.may(Operation::Read, b""));
    for _ in 0..2 {
        assert!(rights.may_publish(b"w") && rights.may_publish(b"") && !rights.may_publish(b"x"));
    }
    for number in 0..100 {
        assert!(rights.may_publish(format!("w{number}").as_bytes()));
    }
    // Another user's change is not this one's.
    access.put_user(&name("v"), Some(Secret::none()), None, nobody_waits()).unwrap();
    assert!(rights.may_publish(b"w"));
    access.set_permissions(&user, &vhost, permissions("", "^x", ""), nobody_waits()).unwrap();
    assert!(rights.may_publish(b"x") && !rights.may_publish(b"w") && !rights.may_publish(b""));
    access.delete_user(&user, nobody_waits()).unwrap();
    assert!(!rights.may_publish(b"x") && !rights.may_enter() && !rights.may_publish_as(b"v"));
}

#[test]
fn topics_are_free_where_nothing_is_said() {
    let access = access();
    let (user, vhost) = (name("u"), name("v"));
    access.put_user(&user, Some(Secret::none()), None, nobody_waits()).unwrap();
    let mut rights = judge(&access, Claim::Proved { user: b"u" }, LOOPBACK).unwrap().rights(&access, &vhost);
    assert!(!rights.has_topics() && rights.may_use_topic(Operation::Write, b"t", b"anything"));
    let topics = TopicPermissions::new("^{username}\\.{vhost}$", "^b").unwrap();
    access.set_topic_permissions(&user, &vhost, Some(&name("t")), Some(topics), nobody_waits()).unwrap();
    assert!(rights.has_topics());
    assert!(
        rights.may_use_topic(Operation::Write, b"t", b"u.v")
            && rights.may_use_topic(Operation::Read, b"t", b"bc")
    );
    assert!(!rights.may_use_topic(Operation::Write, b"t", b"v.v"));
    assert!(!rights.may_use_topic(Operation::Read, b"t", b"c"));
    assert!(rights.may_use_topic(Operation::Write, b"other", b"v.v"));
    access.set_topic_permissions(&user, &vhost, None, None, nobody_waits()).unwrap();
    assert!(!rights.has_topics());
    let again = access.set_topic_permissions(&user, &vhost, None, None, nobody_waits());
    assert_eq!(again, Err(ChangeRefused::NothingThere));
}

#[test]
fn who_publishes_as_another_is_tagged() {
    let access = access();
    let (user, vhost) = (name("u"), name("/"));
    access.put_user(&user, Some(Secret::none()), None, nobody_waits()).unwrap();
    let mut rights = judge(&access, Claim::Proved { user: b"u" }, LOOPBACK).unwrap().rights(&access, &vhost);
    assert!(rights.may_publish_as(b"u") && !rights.may_publish_as(b"v"));
    access.put_user(&user, None, Some(vec!["impersonator".to_owned()]), nobody_waits()).unwrap();
    assert!(rights.may_publish_as(b"v"));
}

#[test]
fn what_the_configuration_declares_wins_and_is_changed_there() {
    let kept = Arc::new(Kept::default());
    let stored = ["a", "b"].map(|user| User::new(name(user), Secret::none()));
    let mut declared = User::new(name("a"), Secret::none());
    declared.tags = vec!["monitoring".to_owned()];
    let access = Access::new(Settings::default(), stored, [declared], kept.clone()).unwrap();
    let user = access.user(b"a").unwrap();
    assert!(user.declared && user.has_tag("monitoring"));
    let refused = ChangeRefused::Declared(name("a"));
    assert_eq!(access.put_user(&name("a"), Some(Secret::none()), None, nobody_waits()), Err(refused.clone()));
    assert_eq!(access.delete_user(&name("a"), nobody_waits()), Err(refused.clone()));
    assert_eq!(
        access.set_permissions(&name("a"), &name("/"), permissions("", "", ""), nobody_waits()),
        Err(refused)
    );
    assert_eq!(access.put_user(&name("b"), Some(Secret::none()), None, nobody_waits()), Ok(false));
    assert_eq!(*kept.0.lock().unwrap(), ["-a", "b [] 0"]);
}

#[test]
fn what_is_not_kept_did_not_happen_and_what_is_taken_away_is_always_taken() {
    let kept = Arc::new(Kept::default());
    let access = Access::new(Settings::default(), [], [], kept.clone()).unwrap();
    access.put_user(&name("u"), Some(Secret::none()), None, nobody_waits()).unwrap();
    let generation = access.generation();
    *kept.1.lock().unwrap() = Some("full".to_owned());
    let refused =
        access.set_permissions(&name("u"), &name("/"), permissions(".*", ".*", ".*"), nobody_waits());
    assert_eq!(refused, Err(ChangeRefused::NotKept("full".to_owned())));
    assert!(access.user(b"u").unwrap().permissions.is_empty());
    assert_eq!(access.generation(), generation);
    access.delete_user(&name("u"), nobody_waits()).unwrap();
    assert_eq!(access.delete_user(&name("u"), nobody_waits()), Err(ChangeRefused::NoUser));
    assert_eq!(kept.0.lock().unwrap().last().unwrap(), "-u");
}
