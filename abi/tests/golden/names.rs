//! Names in C: `bus::Kind::OPEN_QUEUE` is `PVKIT_KIND_OPEN_QUEUE`, `ring::MAX_DEPTH` is `PVKIT_RING_MAX_DEPTH`,
//! `bus::Offer` is `struct pvkit_offer`.

/// `GuestNote` -> `guest_note`.
pub fn snake(camel: &str) -> String {
    let mut snake = String::new();
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// The last part of a path.
pub fn last(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

/// The tag of a struct.
pub fn structure(path: &str) -> String {
    format!("pvkit_{}", snake(last(path)))
}

/// A value of an enumeration or a flag.
pub fn value(path: &str, name: &str) -> String {
    format!("PVKIT_{}_{name}", snake(last(path)).to_uppercase())
}

/// A constant of a module, or of a type (`grant::GrantRef::NONE`).
pub fn constant(path: &str) -> String {
    let mut parts: Vec<_> = path.split("::").collect();
    if parts.len() == 3 {
        parts.remove(0);
        return value(parts[0], parts[1]);
    }
    format!("PVKIT_{}", parts.join("_").replace('.', "_").to_uppercase())
}

/// A field. `class` is a keyword of C++.
pub fn field(name: &str) -> &str {
    if name == "class" { "device_class" } else { name }
}

/// An integer type: one of the header's own typedefs.
pub fn integer(raw: &str) -> String {
    format!("pvkit_{raw}")
}
