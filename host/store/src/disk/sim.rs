//! A disk in memory that fails as real ones do, by a seed.
//!
//! What is written lies in the cache until a sync. [`SimDisk::crash`] is a loss of power: of each
//! sector that was not synced the old or the new content stays, or a mixture; of changes of names a
//! beginning. After a sync that failed the cache says what was written, and a later sync succeeds
//! without writing it, as Linux does it. [`SimDisk::kill`] ends the process alone: the cache stays.

use super::{Advice, Disk, File};
use crate::error::DiskError;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

/// What is written as a whole or not, unless it is torn.
pub const SECTOR_BYTES: usize = 512;

/// How often what fails, in 1,024ths of the calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Syncs of files.
    pub sync: u32,
    /// Writes; some bytes may be written.
    pub write: u32,
    /// Reads.
    pub read: u32,
    /// Creations and renames.
    pub names: u32,
    /// Opening a file that is there, because too many are open.
    pub open: u32,
    /// At a crash, sectors not synced that are torn, of those that change.
    pub torn: u32,
    /// How many bytes all files may have together; 0 for no limit.
    pub bytes_max: u64,
}

/// Numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below that; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// True so many times in 1,024.
    pub fn chance(&mut self, of_1024: u32) -> bool {
        of_1024 > 0 && self.below(1024) < u64::from(of_1024)
    }
}

#[derive(Clone, Default)]
struct Content {
    /// What whoever reads sees.
    cache: Vec<u8>,
    /// What is on disk, where it differs from the cache, by sector.
    disk: BTreeMap<usize, Vec<u8>>,
    /// Sectors that the next sync writes.
    dirty: BTreeSet<usize>,
}

enum Change {
    Create(String, Arc<Mutex<Content>>),
    Rename(String, String),
    Remove(String),
}

type Names = BTreeMap<String, Arc<Mutex<Content>>>;

struct State {
    dice: Dice,
    faults: Faults,
    names: Names,
    synced_names: Names,
    changes: Vec<Change>,
    syncs: u64,
    written_bytes: u64,
    lies: bool,
}

/// The disk. Clones are the same one.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct SimFile {
    name: String,
    content: Arc<Mutex<Content>>,
    disk: SimDisk,
}

fn broken(operation: &'static str, name: &str) -> DiskError {
    // EIO has no kind of its own.
    DiskError::new(operation, name, io::Error::from_raw_os_error(5))
}

fn missing(operation: &'static str, name: &str) -> DiskError {
    DiskError::new(operation, name, io::ErrorKind::NotFound.into())
}

impl SimDisk {
    /// An empty disk that does not fail yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            dice: Dice::new(seed),
            faults: Faults::default(),
            names: Names::new(),
            synced_names: Names::new(),
            changes: Vec::new(),
            syncs: 0,
            written_bytes: 0,
            lies: false,
        })))
    }

    /// What fails from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.0.lock().faults = faults;
    }

    /// From now on syncs of files succeed and write nothing: what a store promises on such a disk is a lie.
    pub fn lies(&self) {
        self.0.lock().lies = true;
    }

    /// What fails now.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.0.lock().faults
    }

    /// How many syncs of files there were, and how many bytes were written.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.syncs, state.written_bytes)
    }

    /// How many bytes all files have.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        used_bytes(&self.0.lock().names)
    }

    /// Loses power: the disk is as it may be when it comes back.
    pub fn crash(&self) {
        let mut state = self.0.lock();
        let State { dice, faults, names, synced_names, changes, .. } = &mut *state;
        let kept = dice.below(changes.len() as u64 + 1) as usize;
        for change in changes.drain(..).take(kept) {
            apply(synced_names, change);
        }
        *names = synced_names.clone();
        for content in names.values() {
            lose(&mut content.lock(), dice, faults.torn);
        }
    }

    /// Ends the process: everything stays as whoever reads sees it.
    pub fn kill(&self) {}

    /// Another disk with the same files, as whoever reads sees them, all of it on disk.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::new(0);
        let mut state = copy.0.lock();
        for (name, content) in &self.0.lock().names {
            let cache = content.lock().cache.clone();
            let content = Arc::new(Mutex::new(Content { cache, ..Content::default() }));
            state.names.insert(name.clone(), content.clone());
            state.synced_names.insert(name.clone(), content);
        }
        drop(state);
        copy
    }

    /// Another disk in the same state, which goes its own way by that seed.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let state = self.0.lock();
        let mut copies = BTreeMap::new();
        let mut copy = |content: &Arc<Mutex<Content>>| {
            let again = || Arc::new(Mutex::new(content.lock().clone()));
            copies.entry(Arc::as_ptr(content)).or_insert_with(again).clone()
        };
        let mut names = |names: &Names| -> Names {
            names.iter().map(|(name, content)| (name.clone(), copy(content))).collect()
        };
        let (now, synced_names) = (names(&state.names), names(&state.synced_names));
        let change = |change: &Change| match change {
            Change::Create(name, content) => Change::Create(name.clone(), copy(content)),
            Change::Rename(from, to) => Change::Rename(from.clone(), to.clone()),
            Change::Remove(name) => Change::Remove(name.clone()),
        };
        let changes = state.changes.iter().map(change).collect();
        let (dice, faults) = (Dice::new(seed), state.faults);
        let (syncs, written_bytes) = (state.syncs, state.written_bytes);
        Self(Arc::new(Mutex::new(State {
            dice,
            faults,
            names: now,
            synced_names,
            changes,
            syncs,
            written_bytes,
            lies: state.lies,
        })))
    }

    /// Turns over bits of a file, on disk too.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn damage(&self, name: &str, offset: usize, mask: u8) -> Result<(), DiskError> {
        let state = self.0.lock();
        let content = state.names.get(name).ok_or_else(|| missing("damage", name))?;
        if let Some(byte) = content.lock().cache.get_mut(offset) {
            *byte ^= mask;
        }
        Ok(())
    }
}

fn used_bytes(names: &Names) -> u64 {
    names.values().map(|content| content.lock().cache.len() as u64).sum()
}

fn apply(names: &mut Names, change: Change) {
    match change {
        Change::Create(name, content) => {
            names.insert(name, content);
        }
        Change::Rename(from, to) => {
            if let Some(content) = names.remove(&from) {
                names.insert(to, content);
            }
        }
        Change::Remove(name) => {
            names.remove(&name);
        }
    }
}

fn lose(content: &mut Content, dice: &mut Dice, torn: u32) {
    let Content { cache, disk, dirty } = content;
    for (sector, old) in core::mem::take(disk) {
        let start = sector * SECTOR_BYTES;
        let Some(now) = cache.get_mut(start..start + old.len()) else { continue };
        if !dirty.contains(&sector) {
            // The system believed that it was written.
            now.copy_from_slice(&old);
        } else if dice.chance(torn) {
            let cut = dice.below(old.len() as u64) as usize;
            let (from, to) = if dice.chance(512) { (0, cut) } else { (cut, old.len()) };
            if let (Some(now), Some(old)) = (now.get_mut(from..to), old.get(from..to)) {
                now.copy_from_slice(old);
            }
        } else if dice.chance(512) {
            now.copy_from_slice(&old);
        }
    }
    dirty.clear();
}

impl Disk for SimDisk {
    fn list(&self) -> Result<Vec<String>, DiskError> {
        Ok(self.0.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> Result<Arc<dyn File>, DiskError> {
        let mut state = self.0.lock();
        if state.faults.bytes_max > 0 && used_bytes(&state.names) + bytes > state.faults.bytes_max {
            return Err(DiskError::new("fill", name, io::ErrorKind::StorageFull.into()));
        }
        let fails = state.faults.names;
        if state.dice.chance(fails) {
            return Err(broken("create", name));
        }
        if state.names.contains_key(name) {
            return Err(DiskError::new("create", name, io::ErrorKind::AlreadyExists.into()));
        }
        let content = Arc::new(Mutex::new(Content { cache: vec![0; bytes as usize], ..Content::default() }));
        state.names.insert(name.to_owned(), content.clone());
        state.changes.push(Change::Create(name.to_owned(), content.clone()));
        state.written_bytes += bytes;
        Ok(Arc::new(SimFile { name: name.to_owned(), content, disk: self.clone() }))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        let mut state = self.0.lock();
        let fails = state.faults.open;
        if state.dice.chance(fails) {
            let too_many = rustix::io::Errno::MFILE.raw_os_error();
            return Err(DiskError::new("open", name, io::Error::from_raw_os_error(too_many)));
        }
        let content = state.names.get(name).cloned().ok_or_else(|| missing("open", name))?;
        Ok(Arc::new(SimFile { name: name.to_owned(), content, disk: self.clone() }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut state = self.0.lock();
        let fails = state.faults.names;
        if state.dice.chance(fails) {
            return Err(broken("rename", from));
        }
        let content = state.names.remove(from).ok_or_else(|| missing("rename", from))?;
        state.names.insert(to.to_owned(), content);
        state.changes.push(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let mut state = self.0.lock();
        state.names.remove(name).ok_or_else(|| missing("remove", name))?;
        state.changes.push(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        let mut state = self.0.lock();
        let State { changes, synced_names, .. } = &mut *state;
        changes.drain(..).for_each(|change| apply(synced_names, change));
        Ok(())
    }
}

impl File for SimFile {
    fn len_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.content.lock().cache.len() as u64)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        let mut state = self.disk.0.lock();
        let fails = state.faults.write;
        let fails = state.dice.chance(fails);
        let length = if fails { state.dice.below(bytes.len() as u64) as usize } else { bytes.len() };
        let used = if state.faults.bytes_max > 0 { used_bytes(&state.names) } else { 0 };
        let Content { cache, disk, dirty } = &mut *self.content.lock();
        let (offset, written) = (offset as usize, bytes.get(..length).unwrap_or(bytes));
        let grown = (offset + length).saturating_sub(cache.len()) as u64;
        if state.faults.bytes_max > 0 && grown > 0 && used + grown > state.faults.bytes_max {
            return Err(DiskError::new("write", &self.name, io::ErrorKind::StorageFull.into()));
        }
        if offset + length > cache.len() {
            cache.resize(offset + length, 0);
        }
        for sector in offset / SECTOR_BYTES..(offset + length).div_ceil(SECTOR_BYTES) {
            let end = ((sector + 1) * SECTOR_BYTES).min(cache.len());
            let now = cache.get(sector * SECTOR_BYTES..end).unwrap_or_default();
            disk.entry(sector).or_insert_with(|| now.to_vec());
            dirty.insert(sector);
        }
        if let Some(place) = cache.get_mut(offset..offset + length) {
            place.copy_from_slice(written);
        }
        state.written_bytes += length as u64;
        if fails { Err(broken("write", &self.name)) } else { Ok(()) }
    }

    fn read_at(&self, room: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let mut state = self.disk.0.lock();
        let fails = state.faults.read;
        if state.dice.chance(fails) {
            return Err(broken("read", &self.name));
        }
        let content = self.content.lock();
        let rest = content.cache.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(room.len());
        if let (Some(room), Some(rest)) = (room.get_mut(..length), rest.get(..length)) {
            room.copy_from_slice(rest);
        }
        Ok(length)
    }

    fn sync(&self) -> Result<(), DiskError> {
        let mut state = self.disk.0.lock();
        state.syncs += 1;
        if state.lies {
            return Ok(());
        }
        let fails = state.faults.sync;
        let fails = state.dice.chance(fails);
        let Content { disk, dirty, .. } = &mut *self.content.lock();
        for sector in core::mem::take(dirty) {
            // Of a sync that fails some sectors are written; all count as written from now on.
            if !fails || state.dice.chance(512) {
                disk.remove(&sector);
            }
        }
        if fails { Err(broken("sync", &self.name)) } else { Ok(()) }
    }

    fn advise(&self, _: Advice, _: u64, _: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(disk: &SimDisk, name: &str) -> Vec<u8> {
        let file = disk.open(name).unwrap();
        let mut bytes = vec![0; file.len_bytes().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn what_was_synced_survives_and_what_was_not_may_be_torn() {
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let disk = SimDisk::new(seed);
            disk.set_faults(Faults { torn: 256, ..Faults::default() });
            let file = disk.create("a", 2 * SECTOR_BYTES as u64).unwrap();
            disk.sync_names().unwrap();
            file.write_at(&[1; SECTOR_BYTES], 0).unwrap();
            file.sync().unwrap();
            file.write_at(&[2; SECTOR_BYTES], SECTOR_BYTES as u64).unwrap();
            disk.crash();
            let bytes = read(&disk, "a");
            assert!(bytes[..SECTOR_BYTES].iter().all(|byte| *byte == 1), "seed {seed}");
            match bytes[SECTOR_BYTES..].iter().filter(|byte| **byte == 2).count() {
                0 => lost += 1,
                SECTOR_BYTES => kept += 1,
                _ => torn += 1,
            }
        }
        assert!(lost > 20 && kept > 20 && torn > 20, "{lost} {kept} {torn}");
    }

    #[test]
    fn after_a_failed_sync_the_next_succeeds_and_wrote_nothing() {
        let mut lost = 0;
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let file = disk.create("a", SECTOR_BYTES as u64).unwrap();
            disk.sync_names().unwrap();
            disk.set_faults(Faults { sync: 1024, ..Faults::default() });
            file.write_at(&[1; SECTOR_BYTES], 0).unwrap();
            assert!(file.sync().is_err());
            disk.set_faults(Faults::default());
            file.sync().unwrap();
            assert_eq!(read(&disk, "a")[0], 1, "the cache still has it");
            disk.crash();
            lost += usize::from(read(&disk, "a")[0] == 0);
        }
        assert!((10..40).contains(&lost), "{lost} of 50");
    }

    #[test]
    fn names_that_were_not_synced_may_go_in_order() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let disk = SimDisk::new(seed);
            disk.create("a", 1).unwrap();
            disk.sync_names().unwrap();
            disk.rename("a", "b").unwrap();
            disk.create("c", 1).unwrap();
            disk.crash();
            seen.insert(disk.list().unwrap());
        }
        let names = |names: &[&str]| names.iter().map(|name| String::from(*name)).collect::<Vec<_>>();
        assert_eq!(seen, BTreeSet::from([names(&["a"]), names(&["b"]), names(&["b", "c"])]));
    }

    #[test]
    fn a_full_disk_creates_nothing_and_has_space_after_a_removal() {
        let disk = SimDisk::new(0);
        disk.set_faults(Faults { bytes_max: 1000, ..Faults::default() });
        disk.create("a", 800).unwrap();
        assert!(disk.create("b", 800).err().unwrap().is_full());
        disk.remove("a").unwrap();
        disk.create("b", 800).unwrap();
    }
}
