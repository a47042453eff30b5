//! The smallest virtual machine monitor boots the demo's image, and says what went wrong where it does not.

use pvkit_tests::{Sink, unikernel, unless_kvm};

fn boot(arguments: &[&str]) -> (Result<u8, String>, String) {
    let output = Sink::default();
    let ended = smallest_vmm::boot(arguments.iter().map(ToString::to_string), output.clone());
    (ended.map_err(|error| error.to_string()), output.text())
}

#[test]
fn demo_image_reads_its_disk_and_powers_off() {
    if !unless_kvm() {
        return;
    }
    let image = unikernel();
    let (ended, said) = boot(&[&image.to_string_lossy(), "", "app=bench", "depth=4", "requests=100", "op=read"]);
    assert_eq!(ended, Ok(0), "{said}");
    assert!(said.contains("requests=100"), "{said}");
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    assert!(boot(&[]).0.is_err_and(|error| error.starts_with("usage:")));
    assert!(boot(&["image", "/no/such/disk"]).0.is_err_and(|error| error.contains("/no/such/disk")));
}
