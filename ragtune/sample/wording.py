"""Wordings of the little world's facts, in passages and in questions.

`{x}` is the subject, `{v}` the fact's value. A passage opens with one sentence of OPENINGS and goes on with one of each
relation's sentences; a question is one of the relation's.
"""

OPENINGS = {
    "country": ("{x} is a country.", "{x} is a sovereign country."),
    "element": ("{x} is a chemical element.", "{x} is one of the chemical elements."),
    "state": ("{x} is a state of the United States.", "{x} is one of the fifty states of the United States."),
}

SENTENCES = {
    "continent": (
        "It lies in {v}.",
        "It is part of {v}.",
        "{x} belongs to {v}.",
        "Geographers count it as part of {v}.",
    ),
    "capital": (
        "Its capital is {v}.",
        "{v} is its capital.",
        "The capital of {x} is {v}.",
        "{v} serves as the capital.",
    ),
    "currency": (
        "Its currency is the {v}.",
        "The {v} is the currency of {x}.",
        "People pay with the {v}.",
        "The money in use there is the {v}.",
    ),
    "language": (
        "The government works in {v}.",
        "{v} is the language of government.",
        "The language of government in {x} is {v}.",
        "Laws are published there in {v}.",
    ),
    "iso code": (
        "Its ISO code is {v}.",
        "{v} is the two-letter ISO code of {x}.",
        "ISO gave it the code {v}.",
        "The letters {v} stand for it in ISO 3166.",
    ),
    "calling code": (
        "Its calling code is {v}.",
        "{v} is the calling code of {x}.",
        "From abroad it is dialled with {v}.",
        "Telephone numbers there begin with {v}.",
    ),
    "symbol": (
        "Its chemical symbol is {v}.",
        "Chemists write {v} for {x}.",
        "{v} is its symbol.",
        "In formulas it is written {v}.",
    ),
    "atomic number": (
        "Its atomic number is {v}.",
        "{x} has the atomic number {v}.",
        "The number of protons in its nucleus is {v}.",
        "With the atomic number {v} it has its place in the periodic table.",
    ),
    "family": (
        "It belongs to the {v}.",
        "Chemists count {x} among the {v}.",
        "Its family in the periodic table is the {v}.",
        "It is a member of the {v}.",
    ),
    "discoverer": (
        "It was discovered by {v}.",
        "{v} discovered {x}.",
        "The discovery of {x} is credited to {v}.",
        "It was {v} who discovered it.",
    ),
    "discovery year": (
        "Its discovery dates from {v}.",
        "{x} was discovered in {v}.",
        "In {v} it was found.",
        "The year of its discovery was {v}.",
    ),
    "eponym": (
        "It is named after {v}.",
        "Its name comes from {v}.",
        "{v} gave {x} its name.",
        "The name of {x} recalls {v}.",
    ),
    "largest city": (
        "Its largest city is {v}.",
        "{v} is the largest city of {x}.",
        "No city there is larger than {v}.",
        "The city with the most inhabitants is {v}.",
    ),
    "nickname": (
        "Its nickname is the {v}.",
        "{x} is known as the {v}.",
        "People call it the {v}.",
        "The {v} is what it is called.",
    ),
    "statehood": (
        "It became a state in {v}.",
        "{x} joined the Union in {v}.",
        "In {v} it was admitted to the Union.",
        "The year of its statehood is {v}.",
    ),
    "postal code": (
        "Its postal code is {v}.",
        "{v} is the postal abbreviation of {x}.",
        "On letters it is written {v}.",
        "The post office knows it as {v}.",
    ),
}

QUESTIONS = {
    "continent": (
        "which continent is {x} in",
        "what continent does {x} belong to",
        "on which continent does {x} lie",
        "which part of the world is {x} in",
        "what continent is {x} part of",
    ),
    "capital": (
        "what is the capital of {x}",
        "which city is the capital of {x}",
        "what is the capital city of {x}",
        "which city does {x} have as its capital",
        "what is the name of the capital of {x}",
    ),
    "currency": (
        "what is the currency of {x}",
        "which currency is used in {x}",
        "what do people pay with in {x}",
        "what money is in use in {x}",
        "what is the name of the money of {x}",
    ),
    "language": (
        "what is the language of government in {x}",
        "which language does the government of {x} work in",
        "in what language are the laws of {x} published",
        "what language is used by the government of {x}",
        "which language are laws written in in {x}",
    ),
    "iso code": (
        "what is the ISO code of {x}",
        "which two letters stand for {x} in ISO 3166",
        "what ISO code does {x} have",
        "which code did ISO give to {x}",
        "what is the two-letter code of the country {x}",
    ),
    "calling code": (
        "what is the calling code of {x}",
        "which calling code does {x} have",
        "how is {x} dialled from abroad",
        "what do telephone numbers in {x} begin with",
        "which number do you dial to call {x}",
    ),
    "symbol": (
        "what is the chemical symbol of {x}",
        "what is the symbol for {x}",
        "how is {x} written in formulas",
        "what do chemists write for {x}",
        "which symbol does {x} have",
    ),
    "atomic number": (
        "what is the atomic number of {x}",
        "which atomic number does {x} have",
        "how many protons are in the nucleus of {x}",
        "what is the number of protons of {x}",
        "which number does {x} have in the periodic table",
    ),
    "family": (
        "which family of elements does {x} belong to",
        "what family is {x} a member of",
        "what group of elements is {x} in",
        "among which elements is {x} counted",
        "which elements are the family of {x}",
    ),
    "discoverer": (
        "who discovered {x}",
        "who was it that discovered {x}",
        "who is credited with the discovery of {x}",
        "by whom was {x} discovered",
        "who found {x}",
    ),
    "discovery year": (
        "when was {x} discovered",
        "in what year was {x} discovered",
        "what year was {x} found in",
        "which year does the discovery of {x} date from",
        "when was {x} found",
    ),
    "eponym": (
        "what is {x} named after",
        "where does the name of {x} come from",
        "what does the name of {x} recall",
        "what gave {x} its name",
        "after what is {x} named",
    ),
    "largest city": (
        "what is the largest city of {x}",
        "which city in {x} is the largest",
        "what is the biggest city in {x}",
        "which city of {x} has the most inhabitants",
        "what is the name of the largest city in {x}",
    ),
    "nickname": (
        "what is the nickname of {x}",
        "what is {x} known as",
        "what do people call {x}",
        "which nickname does {x} have",
        "by what nickname is {x} called",
    ),
    "statehood": (
        "when did {x} become a state",
        "in what year did {x} join the union",
        "when was {x} admitted to the union",
        "what is the year of statehood of {x}",
        "which year did {x} become a state in",
    ),
    "postal code": (
        "what is the postal code of {x}",
        "what is the postal abbreviation of {x}",
        "how is {x} written on letters",
        "which two letters does the post office use for {x}",
        "what is {x} to the post office",
    ),
}
