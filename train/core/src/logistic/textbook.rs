//! Logistic regression with Adam in its textbook form: dense rows, every parameter in every step, in f64. Slow and readable; the
//! tests hold the fast form against it.

/// A model with Adam's moments. The last parameter may be an intercept, for which rows have the value 1.
#[derive(Clone, Debug)]
pub struct TextbookLogistic {
    /// Parameters.
    pub weights: Vec<f64>,
    /// Which of them the L2 term leaves alone.
    pub intercept: Option<usize>,
    means: Vec<f64>,
    squares: Vec<f64>,
    steps: i32,
}

/// A row: its values, one a parameter, and its label.
pub type Row = (Vec<f64>, f64);

/// Learning rate, decay rates of the moments, weight of the L2 term.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the first moments.
    pub beta1: f64,
    /// Decay of the second moments.
    pub beta2: f64,
    /// Multiple of the parameter that is added to its gradient.
    pub l2: f64,
}

impl TextbookLogistic {
    /// A model whose `n` parameters are 0.
    #[must_use]
    pub fn new(n: usize, intercept: Option<usize>) -> Self {
        Self { weights: vec![0.0; n], intercept, means: vec![0.0; n], squares: vec![0.0; n], steps: 0 }
    }

    /// `w . x`.
    #[must_use]
    pub fn output(&self, values: &[f64]) -> f64 {
        self.weights.iter().zip(values).map(|(w, x)| w * x).sum()
    }

    /// Sum over `rows` of the loss in nats.
    #[must_use]
    pub fn loss(&self, rows: &[Row]) -> f64 {
        let loss = |(values, label): &Row| {
            let z = self.output(values);
            z.max(0.0) - z * label + (-z.abs()).exp().ln_1p()
        };
        rows.iter().map(loss).sum()
    }

    /// Sum over `rows` of the gradient.
    #[must_use]
    pub fn gradient(&self, rows: &[Row]) -> Vec<f64> {
        let mut gradient = vec![0.0; self.weights.len()];
        for (values, label) in rows {
            let error = 1.0 / (1.0 + (-self.output(values)).exp()) - label;
            gradient.iter_mut().zip(values).for_each(|(g, x)| *g += error * x);
        }
        gradient
    }

    /// One step with the weighted sum of the batches' gradients.
    pub fn step(&mut self, batches: &[(&[Row], f64)], adam: Adam) {
        let mut gradient = vec![0.0; self.weights.len()];
        for (rows, weight) in batches {
            gradient.iter_mut().zip(self.gradient(rows)).for_each(|(sum, g)| *sum += weight * g);
        }
        self.steps += 1;
        for (i, g) in gradient.iter().enumerate() {
            let g = g + if self.intercept == Some(i) { 0.0 } else { adam.l2 * self.weights[i] };
            self.means[i] = adam.beta1 * self.means[i] + (1.0 - adam.beta1) * g;
            self.squares[i] = adam.beta2 * self.squares[i] + (1.0 - adam.beta2) * g * g;
            let mean = self.means[i] / (1.0 - adam.beta1.powi(self.steps));
            let square = self.squares[i] / (1.0 - adam.beta2.powi(self.steps));
            self.weights[i] -= adam.learning_rate * mean / (square.sqrt() + 1e-8);
        }
    }
}
