//! Which of several servers a key lies on.
//!
//! Rendezvous hashing (Thaler and Ravishankar 1998): every server draws a number for the key, and the highest has it. So a key's
//! server depends on the set of servers alone, not on their order, and a further server takes over only the keys it then has.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The servers that keys are shared between.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    seeds: Vec<u64>,
}

impl Placement {
    /// Of servers by their addresses, which are all different.
    pub(super) fn new<'a>(servers: impl IntoIterator<Item = &'a str>) -> Self {
        Self { seeds: servers.into_iter().map(|address| xxh3_64(address.as_bytes())).collect() }
    }

    /// The server, by its position, that `key` lies on.
    pub(super) fn server(&self, key: &str) -> usize {
        if self.seeds.len() < 2 {
            return 0;
        }
        let drawn = |seed: u64| (xxh3_64_with_seed(key.as_bytes(), seed), seed);
        (0..self.seeds.len()).max_by_key(|server| drawn(self.seeds[*server])).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> impl Iterator<Item = String> {
        (0..250).flat_map(|step| (0..24).map(move |slot| format!("run/{step}/g{slot}")))
    }

    const SERVERS: [&str; 4] = ["redis://a:1", "redis://b:1", "redis://c:1", "redis://d:1"];

    #[test]
    fn servers_have_about_the_same_share() {
        let placement = Placement::new(SERVERS);
        let mut counts = [0; 4];
        keys().for_each(|key| counts[placement.server(&key)] += 1);
        // 6000 keys: 1500 each, standard deviation 34.
        assert!(counts.iter().all(|n| (1350..1650).contains(n)), "{counts:?}");
    }

    #[test]
    fn the_order_of_the_servers_does_not_matter() {
        let (placement, turned) = (Placement::new(SERVERS), Placement::new(SERVERS.into_iter().rev()));
        assert!(keys().all(|key| placement.server(&key) == 3 - turned.server(&key)));
    }

    #[test]
    fn a_further_server_takes_its_share_and_moves_nothing_else() {
        let (before, after) = (Placement::new(SERVERS[..3].iter().copied()), Placement::new(SERVERS));
        let moved: Vec<String> = keys().filter(|key| before.server(key) != after.server(key)).collect();
        assert!(moved.iter().all(|key| after.server(key) == 3));
        assert!((1350..1650).contains(&moved.len()), "{}", moved.len());
    }

    #[test]
    fn one_server_has_everything() {
        let placement = Placement::new(["redis://a:1"]);
        assert!(keys().all(|key| placement.server(&key) == 0));
    }

    #[test]
    fn places_stay_where_they_are_from_release_to_release() {
        // Processes of different builds meet in one run. The numbers are of Python's xxhash 3: for each key the server with the
        // highest `xxh3_64_intdigest(key, seed=xxh3_64_intdigest(server))`.
        let placement = Placement::new(SERVERS);
        let found: Vec<usize> = keys().take(12).map(|key| placement.server(&key)).collect();
        assert_eq!(found, [1, 3, 0, 1, 0, 2, 3, 0, 2, 3, 2, 0]);
    }
}
