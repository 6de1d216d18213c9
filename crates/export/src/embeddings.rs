//! Embeddings for NumPy and for everything that reads CSV.

use std::fmt::Write as _;

/// Embeddings `[N, D]` of labelled images.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// `[N, D]`.
    pub points: &'a [f32],
    /// D.
    pub dim: usize,
    /// Classes `[N]`.
    pub labels: &'a [u8],
}

impl Labelled<'_> {
    /// The embeddings as a NumPy file, `float32 [N, D]`.
    pub fn npy(&self) -> Vec<u8> {
        let bytes: Vec<u8> = self.points.iter().flat_map(|value| value.to_le_bytes()).collect();
        npy("<f4", &[self.labels.len(), self.dim], &bytes)
    }

    /// The labels as a NumPy file, `uint8 [N]`.
    pub fn labels_npy(&self) -> Vec<u8> {
        npy("|u1", &[self.labels.len()], self.labels)
    }

    /// One line an image: label, then D columns, with as many digits as give the same numbers back.
    pub fn csv(&self) -> String {
        let mut text = String::from("label");
        (0..self.dim).for_each(|d| {
            let _ = write!(text, ",e{d}");
        });
        text.push('\n');
        for (label, point) in self.labels.iter().zip(self.points.chunks_exact(self.dim)) {
            let _ = write!(text, "{label}");
            point.iter().for_each(|value| {
                let _ = write!(text, ",{value}");
            });
            text.push('\n');
        }
        text
    }
}

/// A NumPy array file, version 1.0.
///
/// # Source
/// NumPy Enhancement Proposal 1.
fn npy(dtype: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({}), }}", sizes.trim_end());
    // Magic, version, length and header together fill whole blocks of 64 bytes; the header ends in a newline.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.push_str(&" ".repeat(length - header.len() - 1));
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((length as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(bytes);
    file
}

#[cfg(test)]
mod tests {
    use super::{Labelled, npy};

    #[test]
    fn npy_header_fills_whole_blocks_and_says_the_shape() {
        let file = npy("<f4", &[3, 2], &[0; 24]);
        assert_eq!(&file[..8], b"\x93NUMPY\x01\x00");
        let length = u16::from_le_bytes([file[8], file[9]]) as usize;
        assert_eq!((10 + length) % 64, 0);
        assert_eq!(file.len(), 10 + length + 24);
        let header = std::str::from_utf8(&file[10..10 + length]).unwrap();
        assert!(header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2,), }"), "{header}");
        assert!(header.ends_with('\n'));
    }

    #[test]
    fn csv_gives_the_same_numbers_back() {
        let points = [0.1, -3.402_823_5e38, 1e-45, 0.0];
        let text = Labelled { points: &points, dim: 2, labels: &[7, 0] }.csv();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines.len()), ("label,e0,e1", 3));
        let numbers = lines[1..].iter().flat_map(|line| line.split(',').skip(1)).map(|v| v.parse::<f32>().unwrap());
        assert_eq!(numbers.collect::<Vec<f32>>(), points);
        assert!(lines[1].starts_with("7,") && lines[2].starts_with("0,"));
    }
}
