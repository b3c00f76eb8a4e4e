//! The networks of the examples, which the tests run too, and what several examples share.

pub mod device;

pub mod noise_gate {
    pub mod picture;
    pub mod rnnoise;
}

pub mod pronounce {
    pub mod g2p;
}

pub mod segment {
    pub mod icu;
}

pub mod tag_types {
    pub mod recorded;
    pub mod typeseg;
}

pub mod training {
    pub mod char_model;
    pub mod copy_memory;
    pub mod country;
    pub mod forecast;
    pub mod plot;
    pub mod run;
    pub mod vanishing;
}

pub mod voice_activity {
    pub mod picture;
    pub mod silero;
    pub mod speech;
}
