//! Damaged checkpoints and configurations are refused in one line, or read; `cargo xtask soak` tries many more.

#[cfg(test)]
mod tests {
    use crate::checkpoint;
    use crate::config::Config;
    use crate::event::{Cause, Recovery};
    use sphereface_models::{LOSSES, Network};
    use sphereface_tensor::Backend;
    use sphereface_tensor::cpu::CpuBackend;
    use sphereface_testkit::TrainingCase;
    use sphereface_testkit::fuzz::{Random, bounded, inputs, mutated};
    use std::fs;

    #[test]
    fn damaged_checkpoints_are_refused_or_read() {
        let case = TrainingCase::new(Network::input([5, 4, 1]).stage(2, 1).linear(2), LOSSES[2], 3, 4, 2);
        let (parameters, plan) = case.plan().unwrap();
        let rule = case.training.rule;
        let mut backend = CpuBackend::new(1).unwrap();
        backend.lower(&plan).unwrap();
        case.upload(&parameters, &mut backend).unwrap();
        let folder = std::env::temp_dir().join(format!("sphereface-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("checkpoint.safetensors");
        let recovery = Recovery {
            cause: Cause::Stuck,
            sentence: "nothing is being learned".into(),
            found_at: 7,
            back_to: 0,
            rate_factor: 0.5,
            lambda: Some(20.0),
        };
        let mut corpus = Vec::new();
        for recoveries in [vec![], vec![recovery]] {
            checkpoint::save(&path, &mut backend, &parameters, rule, &recoveries).unwrap();
            assert_eq!(checkpoint::load(&path, &mut backend, &parameters, rule).unwrap(), (0, recoveries));
            corpus.push(fs::read(&path).unwrap());
        }
        // A header of 4 GB, and a tensor of 4 GB, in 30 bytes.
        corpus.push([&0xffff_ffff_u64.to_le_bytes()[..], b"{\"a\":{\"dtype\":\"F32\"}}"].concat());
        let header = b"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296],\"data_offsets\":[0,4294967296]}}";
        corpus.push([&(header.len() as u64).to_le_bytes()[..], header].concat());
        let (mut random, count) = (Random(3), inputs(1000));
        bounded(|| {
            for _ in 0..count {
                fs::write(&path, mutated(&mut random, &corpus)).unwrap();
                if let Err(error) = checkpoint::load(&path, &mut backend, &parameters, rule) {
                    let line = format!("{error:#}");
                    assert!(line.contains("checkpoint.safetensors"), "{line}");
                }
            }
        });
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn damaged_configurations_are_refused_or_read() {
        let changed =
            "[model]\nnetwork = \"sphereface20\"\nlosses = [\"softmax\"]\n[training]\nrate = 1e-3\nsteps = 9\n";
        let corpus = [Config::default().to_toml().unwrap().into_bytes(), changed.as_bytes().to_vec()];
        let (mut random, mut read) = (Random(4), 0);
        let count = inputs(1000);
        bounded(|| {
            for _ in 0..count {
                let text = String::from_utf8_lossy(&mutated(&mut random, &corpus)).into_owned();
                let checked = Config::parse(&text).and_then(|config| config.check().map(|()| config));
                match checked {
                    // What is accepted can be used: its schedules have numbers, and it is written and read as it is.
                    Ok(config) => {
                        let (rates, lambdas) = (config.rate().table(50), config.lambda().table(50));
                        assert!(rates.iter().chain(&lambdas).all(|value| value.is_finite()), "{text}");
                        assert_eq!(Config::parse(&config.to_toml().unwrap()).unwrap(), config);
                        read += 1;
                    }
                    Err(error) => assert!(!format!("{error:#}").is_empty()),
                }
            }
        });
        assert!(read > count / 50, "{read} of {count} read");
    }
}
