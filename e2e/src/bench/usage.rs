//! What processes cost: CPU time and memory, as the kernel counts them.

use anyhow::{Context, Result};

/// CPU seconds of a process so far, of user and kernel; counted in ticks of 10 ms.
///
/// # Errors
///
/// Where the process is gone.
pub fn cpu_seconds(pid: i32) -> Result<f64> {
    let stat =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} has ended"))?;
    // The name, field 2, may hold blanks: fields are counted after its closing parenthesis.
    let (_, rest) = stat.rsplit_once(')').context("/proc/PID/stat has no name")?;
    let ticks = |field: usize| -> Result<f64> {
        let text = rest
            .split_whitespace()
            .nth(field - 3)
            .context("/proc/PID/stat is short")?;
        Ok(text.parse()?)
    };
    Ok((ticks(14)? + ticks(15)?) / 100.0)
}

/// Memory of a process in MB (10^6 bytes): what it has in RAM now, and the most that it ever had.
///
/// # Errors
///
/// Where the process is gone.
pub fn memory_mb(pid: i32) -> Result<(f64, f64)> {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} has ended"))?;
    let kib = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let text = line.and_then(|line| line.split_whitespace().next());
        Ok(text
            .with_context(|| format!("/proc/PID/status has no {name}"))?
            .parse()?)
    };
    Ok((kib("VmRSS:")? * 1024.0 / 1e6, kib("VmHWM:")? * 1024.0 / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_cpu_and_memory() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let before = cpu_seconds(pid).unwrap();
        let mut held = vec![0_u8; 20_000_000];
        let mut turn: u8 = 0;
        while cpu_seconds(pid).unwrap() < before + 0.05 {
            turn = turn.wrapping_add(1);
            held.iter_mut().step_by(4096).for_each(|byte| *byte = turn);
        }
        let (now, most) = memory_mb(pid).unwrap();
        assert!(
            now > 20.0 && most >= now,
            "{now} MB now, {most} MB at most, {}",
            held.len()
        );
        assert!(cpu_seconds(i32::MAX).is_err());
    }
}
