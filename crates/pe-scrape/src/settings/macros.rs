//! The macros that declare settings.

/// Declares a struct of settings together with the table of its keys.
///
/// Each line is a key: its documentation, its name, its type, perhaps ` = ` and a default, and perhaps further facts
/// behind commas: `range(MIN, MAX)`, `above(MIN)`, `otherwise("what holds where none is given")`, `named("key")`,
/// `secret_file("key")`. The words in brackets are what messages call the object. The type implements
/// [`Setting`](crate::settings::Setting), so that one struct may be a key of another, and has the table as `TABLE`.
///
/// See [the module](mod@crate::settings) for an example.
#[macro_export]
macro_rules! settings {
    ($(#[doc = $about:literal])+ $vis:vis struct $name:ident($called:literal) { $(
        $(#[doc = $doc:literal])+ $field:ident: $type:ty $(= $default:expr)? $(, $fact:ident($($argument:expr),*))*;
    )+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        $vis struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl $name {
            /// The keys.
            $vis const TABLE: &'static $crate::settings::Table = &$crate::settings::Table::new(
                $called,
                &[$($about),+],
                &[$(
                    $crate::settings::Key::of::<$type>(stringify!($field), &[$($doc),+])
                        $(.default(|| {
                            let value: $type = $default;
                            $crate::settings::Setting::encode(&value)
                        }))?
                        $(.$fact($($argument),*))*
                ),+],
            );
        }

        impl $crate::settings::Setting for $name {
            const KIND: $crate::settings::Kind = $crate::settings::Kind::Object($name::TABLE);

            fn decode<'v, N: $crate::settings::Node<'v>>(
                node: N,
                _: &$crate::settings::Bounds,
                problems: &mut $crate::settings::Problems,
            ) -> ::core::option::Option<Self> {
                let object = $crate::settings::Object::open(node, Self::TABLE, problems)?;
                let mut keys = Self::TABLE.keys.iter();
                $(
                    let $field: ::core::option::Option<$type> = object.read(
                        keys.next()?,
                        || ::core::option::Option::<$type>::None $(.or(::core::option::Option::Some($default)))?,
                        problems,
                    );
                )+
                ::core::option::Option::Some(Self { $($field: $field?),+ })
            }

            fn encode(&self) -> $crate::Value {
                let mut object = $crate::Map::new();
                let mut keys = Self::TABLE.keys.iter();
                $(
                    if let ::core::option::Option::Some(key) = keys.next() {
                        let value = $crate::settings::Setting::encode(&self.$field);
                        if !value.is_null() {
                            object.insert(key.name.to_owned(), value);
                        }
                    }
                )+
                $crate::Value::Object(object)
            }

            fn check(
                &self,
                _: &$crate::settings::Bounds,
                problems: &mut $crate::settings::Problems,
            ) {
                let mut keys = Self::TABLE.keys.iter();
                $(
                    if let ::core::option::Option::Some(key) = keys.next() {
                        problems.within(key.name, |problems| {
                            $crate::settings::Setting::check(&self.$field, &key.bounds, problems);
                        });
                    }
                )+
            }
        }
    };
}

/// Declares an enum whose values are words of configuration files.
///
/// ```
/// pe_scrape::choices! {
///     /// The protocol of a query.
///     pub enum Transport {
///         /// Datagrams.
///         #[default]
///         Udp = "udp",
///         /// A stream.
///         Tcp = "tcp",
///     }
/// }
/// assert_eq!(Transport::default().as_str(), "udp");
/// ```
#[macro_export]
macro_rules! choices {
    ($(#[$about:meta])+ $vis:vis enum $name:ident { $($(#[$meta:meta])+ $variant:ident = $word:literal,)+ }) => {
        $(#[$about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        $vis enum $name { $($(#[$meta])+ $variant,)+ }

        impl $name {
            /// All values, in the order of their declaration.
            $vis const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for the value in configuration files.
            #[must_use]
            $vis const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl $crate::settings::Setting for $name {
            const KIND: $crate::settings::Kind = $crate::settings::Kind::Choice(&[$($word),+]);

            fn decode<'v, N: $crate::settings::Node<'v>>(
                node: N,
                _: &$crate::settings::Bounds,
                problems: &mut $crate::settings::Problems,
            ) -> ::core::option::Option<Self> {
                $crate::settings::choose(node, &[$($word),+], problems).map(|at| Self::ALL[at])
            }

            fn encode(&self) -> $crate::Value {
                self.as_str().into()
            }
        }
    };
}
