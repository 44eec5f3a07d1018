//! Matrix factorisation with Nesterov momentum in its textbook form: every parameter moves in every step, in f64, one rating
//! after the other. Slow and readable; the tests hold the fast form against it.

/// Model and velocities.
#[derive(Clone, Debug)]
pub struct TextbookPmf {
    /// Factors of a row.
    pub n_factors: usize,
    /// Whether biases are learnt.
    pub biases: bool,
    /// `U`, shape `(n_users, n_factors)`.
    pub users: Vec<f64>,
    /// `V`, shape `(n_items, n_factors)`.
    pub items: Vec<f64>,
    /// User biases, shape `(n_users,)`.
    pub user_biases: Vec<f64>,
    /// Item biases, shape `(n_items,)`.
    pub item_biases: Vec<f64>,
    velocity: [Vec<f64>; 4],
}

/// One rating: user, item, stars minus the mean.
pub type Row = (usize, usize, f64);

impl TextbookPmf {
    /// The model with these parameters, at rest.
    #[must_use]
    pub fn new(n_factors: usize, biases: bool, users: Vec<f64>, items: Vec<f64>) -> Self {
        let (n_users, n_items) = (users.len() / n_factors, items.len() / n_factors);
        let velocity = [vec![0.0; users.len()], vec![0.0; items.len()], vec![0.0; n_users], vec![0.0; n_items]];
        Self {
            n_factors,
            biases,
            users,
            items,
            user_biases: vec![0.0; n_users],
            item_biases: vec![0.0; n_items],
            velocity,
        }
    }

    /// The model's output for one user and item, in stars minus the mean.
    #[must_use]
    pub fn output(&self, user: usize, item: usize) -> f64 {
        let d = self.n_factors;
        let dot: f64 = (0..d).map(|f| self.users[user * d + f] * self.items[item * d + f]).sum();
        dot + self.user_biases[user] + self.item_biases[item]
    }

    /// Sum over `rows` of the squared error plus the regulariser.
    #[must_use]
    pub fn loss(&self, rows: &[Row], l2: f64) -> f64 {
        let d = self.n_factors;
        let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>();
        rows.iter()
            .map(|&(k, m, y)| {
                let squares = norm(&self.users[k * d..(k + 1) * d])
                    + norm(&self.items[m * d..(m + 1) * d])
                    + self.user_biases[k].powi(2)
                    + self.item_biases[m].powi(2);
                (self.output(k, m) - y).powi(2) + l2 * squares
            })
            .sum()
    }

    /// Sum over `rows` of the gradient: for `U`, `V`, user biases, item biases.
    #[must_use]
    pub fn gradient(&self, rows: &[Row], l2: f64) -> [Vec<f64>; 4] {
        let d = self.n_factors;
        let mut g = self.velocity.clone().map(|v| vec![0.0; v.len()]);
        for &(k, m, y) in rows {
            let error = 2.0 * (self.output(k, m) - y);
            for f in 0..d {
                let (u, v) = (self.users[k * d + f], self.items[m * d + f]);
                g[0][k * d + f] += error * v + 2.0 * l2 * u;
                g[1][m * d + f] += error * u + 2.0 * l2 * v;
            }
            if self.biases {
                g[2][k] += error + 2.0 * l2 * self.user_biases[k];
                g[3][m] += error + 2.0 * l2 * self.item_biases[m];
            }
        }
        g
    }

    /// `v <- mu v + g`, `w <- w - eta (g + mu v)` for every parameter, with `g` the weighted sum of the batches' gradients.
    /// `batches` are the rows of each mini-batch and what its summed gradient is multiplied by.
    pub fn step(&mut self, batches: &[(&[Row], f64)], l2: f64, learning_rate: f64, momentum: f64) {
        let mut total = self.velocity.clone().map(|v| vec![0.0; v.len()]);
        for (rows, weight) in batches {
            for (sum, part) in total.iter_mut().zip(self.gradient(rows, l2)) {
                sum.iter_mut().zip(part).for_each(|(s, p)| *s += weight * p);
            }
        }
        let parameters = [&mut self.users, &mut self.items, &mut self.user_biases, &mut self.item_biases];
        for ((w, v), g) in parameters.into_iter().zip(&mut self.velocity).zip(&total) {
            for ((w, v), g) in w.iter_mut().zip(v).zip(g) {
                *v = momentum * *v + g;
                *w -= learning_rate * (g + momentum * *v);
            }
        }
    }
}
