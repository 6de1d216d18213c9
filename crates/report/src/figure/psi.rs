//! The margin's shape: what A-Softmax puts in place of cos θ.

use super::chart::{Chart, Series, Spread};

/// ψ(θ) for m = 1 to 4; m = 1 is cos θ, the modified softmax.
pub(crate) fn chart() -> Chart {
    // m = 1 has the colour of the modified softmax, which it is, m = 4 that of A-Softmax, and the others are grey.
    let series = [(1, 1), (2, 5), (3, 5), (4, 2)].map(|(m, colour)| {
        let x: Vec<f64> = (0..=120).map(|i| f64::from(i) * 1.5).collect();
        let y = x.iter().map(|&degrees| psi(f64::from(m), degrees.to_radians())).collect();
        let label = if m == 1 { "cos θ, m = 1".to_string() } else { format!("m = {m}") };
        Series { label, colour, strong: true, x, y }
    });
    Chart {
        id: "psi".to_string(),
        title: "ψ(θ), in place of cos θ".to_string(),
        x_label: "θ in degrees",
        x_step: Some(45.0),
        spread: Spread::Tight,
        smooth: false,
        named: true,
        series: series.into(),
    }
}

fn psi(m: f64, theta: f64) -> f64 {
    let k = (m * theta / std::f64::consts::PI).floor().min(m - 1.0);
    let sign = if k.rem_euclid(2.0) < 0.5 { 1.0 } else { -1.0 };
    sign * (m * theta).cos() - 2.0 * k
}

#[cfg(test)]
mod tests {
    use super::psi;

    #[test]
    fn psi_falls_from_one_to_one_minus_twice_m() {
        for m in 1..=4 {
            let m = f64::from(m);
            let at = |i: i32| psi(m, f64::from(i) * std::f64::consts::PI / 1000.0);
            assert!((at(0) - 1.0).abs() < 1e-12);
            assert!((at(1000) - (1.0 - 2.0 * m)).abs() < 1e-9);
            assert!((1..=1000).all(|i| at(i) <= at(i - 1)));
        }
    }
}
