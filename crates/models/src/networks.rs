//! The networks that have a name.

use crate::network::{Initialisation, Network};

/// A network with a name; images and embedding are free.
#[derive(Clone, Copy, Debug)]
pub struct NamedNetwork {
    /// Name on the command line and in files.
    pub key: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Channels and residual units of each stage.
    pub stages: &'static [(usize, usize)],
    /// How parameters start.
    pub initialisation: Initialisation,
}

const fn sphereface(key: &'static str, title: &'static str, stages: &'static [(usize, usize)]) -> NamedNetwork {
    NamedNetwork { key, title, stages, initialisation: Initialisation::Official }
}

/// All named networks.
pub const NETWORKS: [NamedNetwork; 7] = [
    NamedNetwork {
        key: "mnist",
        title: "SphereFace's shape at a quarter of the width, one residual unit a stage",
        stages: &[(16, 1), (32, 1), (64, 1), (128, 1)],
        initialisation: Initialisation::He,
    },
    sphereface("sphereface4", "SphereFace-4 (Liu et al. 2017, table 2)", &[(64, 0), (128, 0), (256, 0), (512, 0)]),
    sphereface("sphereface10", "SphereFace-10 (Liu et al. 2017, table 2)", &[(64, 0), (128, 1), (256, 2), (512, 0)]),
    sphereface("sphereface20", "SphereFace-20 (Liu et al. 2017, table 2)", &[(64, 1), (128, 2), (256, 4), (512, 1)]),
    sphereface("sphereface36", "SphereFace-36 (Liu et al. 2017, table 2)", &[(64, 2), (128, 4), (256, 8), (512, 2)]),
    sphereface(
        "sphereface64",
        "SphereFace-64 as in the paper (Liu et al. 2017, table 2)",
        &[(64, 3), (128, 8), (256, 16), (512, 3)],
    ),
    sphereface(
        "sphereface64-official",
        "SphereFace-64 as in the authors' file, one unit fewer in stage 2",
        &[(64, 3), (128, 7), (256, 16), (512, 3)],
    ),
];

impl NamedNetwork {
    /// The network for images of this height, width and number of channels.
    pub fn network(&self, image: [usize; 3], embedding: usize) -> Network {
        let stages = self.stages.iter();
        stages
            .fold(Network::input(image), |network, &(channels, units)| network.stage(channels, units))
            .linear(embedding)
            .initialised(self.initialisation)
    }
}

/// The network of this name.
pub fn named_network(key: &str) -> Option<&'static NamedNetwork> {
    static ALL: [NamedNetwork; 7] = NETWORKS;
    ALL.iter().find(|network| network.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Backbone as _;
    use sphereface_tensor::ParameterSet;

    /// Counts from the paper's table and the authors' files; fixed biases are not counted.
    #[test]
    fn parameters_and_multiply_adds_are_the_published_ones() {
        for (key, faces, faces_mega, digits, digits_mega) in [
            ("sphereface4", 12_562_496, 164, 1_554_902, 13.17),
            ("sphereface10", 15_217_984, 759, 4_210_390, 65.37),
            ("sphereface20", 22_666_944, 1_750, 11_659_350, 150.89),
            ("sphereface36", 32_771_392, 3_335, 21_763_798, 288.61),
            ("sphereface64", 48_186_816, 6_110, 37_179_222, 530.74),
            ("sphereface64-official", 47_891_648, 5_912, 36_884_054, 516.29),
        ] {
            let named = named_network(key).unwrap();
            let network = named.network([112, 96, 3], 512);
            assert_eq!(network.parameter_count(), faces, "{key}");
            assert_eq!((network.multiply_adds() as f64 / 1e6).round() as usize, faces_mega, "{key}");
            let network = named.network([28, 28, 1], 2);
            assert_eq!(network.parameter_count() + 10 * 2, digits, "{key}");
            let mega = (network.multiply_adds() + 10 * 2) as f64 / 1e6;
            assert!((mega - digits_mega).abs() < 0.005, "{key}: {mega}");
        }
        let small = named_network("mnist").unwrap().network([28, 28, 1], 2);
        assert_eq!((small.multiply_adds() as f64 / 1e4).round(), 501.0);
    }

    #[test]
    fn declared_parameters_are_the_counted_ones() {
        for named in &NETWORKS {
            let network = named.network([28, 28, 1], 3);
            let mut parameters = ParameterSet::default();
            network.declare(&mut parameters).unwrap();
            assert_eq!(parameters.count(), network.parameter_count(), "{}", named.key);
        }
    }
}
