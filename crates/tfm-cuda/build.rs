//! Compresses the checked-in PTX and generates the list of modules that `modules.rs` includes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=kernels");
    let out = std::env::var("OUT_DIR")?;
    let mut files = std::fs::read_dir("kernels")?.collect::<Result<Vec<_>, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    let mut list = String::from("&[\n");
    for path in files.iter().map(std::fs::DirEntry::path) {
        if path.extension().is_none_or(|extension| extension != "ptx") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().display().to_string();
        let file = std::fs::File::create(Path::new(&out).join(format!("{name}.gz")))?;
        let mut compressed = flate2::write::GzEncoder::new(file, flate2::Compression::best());
        compressed.write_all(&std::fs::read(&path)?)?;
        compressed.finish()?;
        writeln!(list, "({name:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.gz\"))),")?;
    }
    std::fs::write(Path::new(&out).join("modules.rs"), list + "]")?;
    Ok(())
}
