//! How the server comes to its address.

use super::world::World;

#[test]
fn without_an_address_nothing_is_ready_and_the_server_sleeps() {
    let mut world = World::without_address();
    world.steps(3000);
    assert_eq!(world.events, []);
    assert!(world.busy < 20, "{} polls in vain", world.busy);
}
