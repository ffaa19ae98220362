//! What one tenant loads, refuses or declares holds up no other: files are looked at by turns, and a global
//! upgrade moves the tenants that take it.

use super::session::*;
use super::{Tenants, Versioned, on};
use lapin::types::FieldTable;
use leveret_testkit::{EVENT_WAIT_MAX, guests, log_lines, process};
use std::fs;
use std::process::Command;

/// `leveret plugin …`, which must end with that code. Gives what it prints, errors included.
fn plugin(tenants: &Tenants, arguments: &[&str], code: i32) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    for variable in ["LEVERET_DATA_DIR", "LEVERET_CONFIG", "LEVERET_PASSWORD"] {
        command.env_remove(variable);
    }
    command.arg("plugin").args(arguments).arg("--data-dir").arg(tenants.broker.data_directory());
    let finished = process::run(&mut command, EVENT_WAIT_MAX).unwrap();
    assert_eq!(finished.status.code(), Some(code), "{}", finished.report());
    finished.stdout + &finished.stderr
}

/// The guest with something else behind it: another file, so it is compiled anew.
fn variant(guest: &str, number: u8) -> Vec<u8> {
    let mut bytes = fs::read(guests::component(guest)).unwrap();
    // A custom section with a name of one byte and a content of one.
    bytes.extend([0, 3, 1, b'n', number]);
    bytes
}

#[test]
fn one_file_of_a_tenant_is_not_behind_the_many_of_another() {
    const MANY: u8 = 40;
    let tenants = Tenants::with("");
    let aside = tenants.broker.aside().join("written-aside");
    for number in 0..MANY {
        fs::write(&aside, variant("versioned_v1", number)).unwrap();
        fs::rename(&aside, tenants.folder("a").join(format!("many-{number:02}.wasm"))).unwrap();
    }
    fs::copy(guests::component("versioned_v2"), &aside).unwrap();
    fs::rename(&aside, tenants.folder("b").join("one.wasm")).unwrap();
    let line = tenants.broker.wait_for_log("one.wasm", EVENT_WAIT_MAX);
    assert!(line.contains(log_lines::PLUGIN_SERVES), "{line}");
    let log = tenants.broker.log();
    let before = log.lines().take_while(|line| !line.contains("one.wasm"));
    let looked_at = before.filter(|line| line.contains("many-")).count();
    assert!(looked_at < 30, "{looked_at} files of the other tenant went first");
    // Those go on.
    tenants.broker.wait_for_log(&format!("many-{:02}.wasm", MANY - 1), EVENT_WAIT_MAX);
}

#[test]
fn a_tenant_whose_exchange_does_not_take_a_global_upgrade_keeps_its_version_and_holds_up_nobody() {
    let tenants = Tenants::with("");
    tenants.put("", "versioned_v1", "versioned.wasm", log_lines::PLUGIN_SERVES);
    on(&tenants, async |tenants| {
        let a = Versioned::declare(tenants, "a").await;
        let b = Versioned::declare(tenants, "b").await;
        // The newer version traps when it is told of that one.
        bind(&b.channel, &b.queues[0], &b.exchange, "unwanted.v1", FieldTable::default()).await;
        assert_eq!((a.version().await, b.version().await), (1, 1));

        let line = tenants.put("", "versioned_with_traps", "versioned.wasm", log_lines::PLUGIN_SERVES);
        assert!(line.contains("exchanges=1 bindings=2 held_back=1"), "{line}");
        let by_key = async |of: &Versioned| {
            publish(&of.channel, &of.exchange, "k.v1", b"x", true).await.unwrap().take_message().is_none()
        };
        assert!(by_key(&a).await, "the newer version routes by the key itself");
        assert_eq!(drain(&a.channel, &a.queues[0]).await.len(), 1);
        assert!(!by_key(&b).await, "the older one does not");
        assert_eq!(b.version().await, 1);

        let said = ["global, in vhost 'b'", "replay", "1.0.0", "could not be replayed"];
        let shown = plugin(tenants, &["list"], 0);
        assert!(said.iter().all(|said| shown.contains(said)), "{shown}");
        let shown = plugin(tenants, &["info", "x-versioned"], 0);
        assert!(shown.contains("version 1.0.0 serves instead"), "{shown}");
        let shown = plugin(tenants, &["retry", "versioned"], 1);
        assert!(shown.contains("virtual host b does not take the newer one, at stage replay"), "{shown}");
        assert_eq!(b.version().await, 1);

        // The exchange changes, and has the newer version without anybody's doing.
        let before = tenants.broker.log_length();
        let (queue, key) = (b.queues[0].clone(), "unwanted.v1".into());
        b.channel.queue_unbind(queue, b.exchange.clone(), key, FieldTable::default()).await.unwrap();
        let moved = "has the plugin's newer version now";
        let line = tenants.broker.wait_for_log_after(before, moved, EVENT_WAIT_MAX);
        assert!(line.contains("vhost=b"), "{line}");
        assert!(by_key(&b).await);
        assert!(!plugin(tenants, &["list"], 0).contains("REFUSED FILE"));
        assert!(
            plugin(tenants, &["retry", "versioned"], 1)
                .contains("nothing of the plugin versioned was refused")
        );
    });
}

#[test]
fn an_interceptor_that_is_attached_wrongly_for_one_tenant_serves_the_others() {
    let attached = |vhost: &str, value: &str| {
        format!(
            "[[intercept]]\ninterceptor = \"append\"\nvhost = \"{vhost}\"\npoint = \"publish\"\norder = 1\n\
             arguments = {{ header = \"x-seen\", value = \"{value}\" }}\n"
        )
    };
    let tenants = Tenants::with(&(attached("a", "v") + &attached("b", "")));
    let line = tenants.put("", "interceptors_v1", "seen.wasm", log_lines::PLUGIN_SERVES);
    assert!(line.contains("held_back=1"), "{line}");
    on(&tenants, async |tenants| {
        let shown = plugin(tenants, &["info", "append"], 0);
        let in_vhost = |vhost: &str| {
            let there = shown.split("attached ").find(|part| part.contains(&format!("virtual host {vhost}")));
            there.unwrap_or_else(|| panic!("{shown}")).to_owned()
        };
        assert!(in_vhost("a").contains("serving") && in_vhost("b").contains("parked"), "{shown}");
        let shown = plugin(tenants, &["list"], 0);
        assert!(shown.contains("in vhost 'b'") && shown.contains("must not be empty"), "{shown}");
        for (vhost, is_ack) in [("a", true), ("b", false)] {
            let channel = confirming(&tenants.connect(vhost).await).await;
            let queue = own_queue(&channel).await;
            let published = publish(&channel, &"".into(), queue.as_str(), b"x", true).await.unwrap();
            assert_eq!(published.is_ack(), is_ack, "{vhost}");
        }
    });
}
