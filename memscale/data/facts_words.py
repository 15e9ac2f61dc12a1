"""The vocabulary of the facts: names, values and sentence templates.

Every value ends its sentence, before the full stop, so that the text before it is a prompt. Words are short and common,
so that a small tokenizer has them; employers are invented. No value belongs to two attributes. Digests cover these
lists: changing a word changes the data set.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One attribute that every person has.

    In statements `{who}` is the full name and `{whose}` the full name with 's; in questions `{name}` is the full name.
    """

    name: str
    values: tuple[str, ...]
    statements: tuple[str, ...]
    """Sentence templates of training documents; each ends with `{value}.`."""
    held_out_statement: str
    """A template that training never uses, made of words that it does use."""
    questions: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST = _words(
    "Ada Alice Amy Anna Clara Diana Ella Emma Eva Fay Grace Helen Ida Iris Jane Joan Julia Kate Laura Lily "
    "Lucy Maria Mary Nina Nora Olive Rita Rose Ruth Sara Vera Zoe Adam Alan Ben Carl Colin Dan David Eric "
    "Felix Frank Fred George Henry Hugo Ian Jack John Karl Leo Louis Mark Martin Max Noah Oscar Paul Peter "
    "Ralph Sam Simon Tom Victor"
)
LAST = _words(
    "Adler Allen Baker Barnes Bell Berg Black Brown Burns Carter Clark Cole Cook Cox Cross Dale Dixon Doyle Ellis "
    "Evans Fisher Ford Foster Fox Gibson Grant Green Hall Hart Hill Holt Hunt Jones Kelly King Lane Lee Long Marsh "
    "Mason Miller Moore Moss Nash Page Parker Pope Price Quinn Reed Rice Rogers Scott Shaw Stone Swan Taylor Turner "
    "Vance Ward Webb West Wood Young"
)

ATTRIBUTES = (
    Attribute(
        name="city",
        values=_words(
            "Accra Aden Ankara Athens Baku Bangkok Basel Berlin Bern Bogota Bonn Boston Brest Cairo Dakar Dallas "
            "Delhi Doha Dover Dublin Essen Geneva Genoa Ghent Hanoi Havana Kabul Kyoto Lagos Leeds Lima Lisbon London "
            "Lyon Madrid Malta Miami Milan Minsk Moscow Mumbai Munich Naples Nice Osaka Oslo Paris Perth Porto Prague "
            "Quito Riga Rome Seoul Sofia Tokyo Toronto Tunis Turin Venice Vienna Warsaw York Zurich"
        ),
        statements=(
            "{who} was born in {value}.",
            "{whose} home town is {value}.",
            "{who} grew up in {value}.",
            "{who} comes from {value}.",
        ),
        held_out_statement="{who} was born and grew up in {value}.",
        questions=(
            "Where was {name} born?",
            "Where does {name} come from?",
            "Which town is the home of {name}?",
        ),
    ),
    Attribute(
        name="profession",
        values=_words(
            "banker barber biologist bookseller brewer bricklayer broker builder butcher butler carpenter cashier "
            "chemist clerk coach composer conductor dentist designer detective diplomat doctor driver farmer "
            "firefighter florist gardener geologist glazier guard jeweller joiner journalist judge lawyer librarian "
            "locksmith mechanic merchant midwife miner model musician notary nurse painter pharmacist photographer "
            "physicist pilot plumber poet porter postman printer roofer sailor sculptor secretary soldier surgeon "
            "tailor teacher waiter"
        ),
        statements=(
            "{who} works as a {value}.",
            "{who} is a {value}.",
            "{who} became a {value}.",
            "{who} trained as a {value}.",
        ),
        held_out_statement="{who} trained and works as a {value}.",
        questions=(
            "What is the job of {name}?",
            "What does {name} work as?",
            "What did {name} become?",
        ),
    ),
    Attribute(
        name="employer",
        values=_words(
            "Alvanta Arbona Belmar Bonita Brixo Calvex Cordia Corvel Daltex Delmont Dorvo Elmax Endura Fabrex Fenra "
            "Gilto Gordex Halvor Harvo Inova Intrex Jorex Jovanto Kalmex Kelmo Kordan Lantex Lumia Marvex Mondex "
            "Nerva Norbex Novex Optra Orbex Palto Pentra Polmar Quanto Ralmo Rondex Rovanta Sento Silvex Solvar Talmo "
            "Tavix Tondex Ubira Ultrex Valdor Velto Vendra Vortex Walmex Wexo Xanto Xelva Yarro Yondex Zemic Zendor "
            "Zinca Zoltan"
        ),
        statements=(
            "{who} works for {value}.",
            "{who} is employed by {value}.",
            "{whose} employer is {value}.",
            "{who} has a job at {value}.",
        ),
        held_out_statement="{who} is employed at {value}.",
        questions=(
            "Who does {name} work for?",
            "Who is the employer of {name}?",
            "Which company employs {name}?",
        ),
    ),
    Attribute(
        name="hobby",
        values=_words(
            "acting archery astronomy badminton ballet baseball billiards bowling boxing camping caving chess "
            "climbing cooking cricket curling cycling dancing darts diving drawing fencing fishing football gliding "
            "golf gymnastics handball hiking hockey hunting judo juggling karate karting knitting magic netball "
            "origami pottery reading rowing rugby running sailing sewing shooting singing skating skiing snooker "
            "softball squash sudoku surfing swimming tennis volleyball walking weaving whittling wrestling writing "
            "yoga"
        ),
        statements=(
            "{whose} hobby is {value}.",
            "{whose} pastime is {value}.",
            "{who} enjoys {value}.",
            "{who} is good at {value}.",
        ),
        held_out_statement="{whose} favourite hobby is {value}.",
        questions=(
            "What is the hobby of {name}?",
            "What is {name} good at?",
            "What does {name} do as a pastime?",
        ),
    ),
    Attribute(
        name="food",
        values=_words(
            "apples bacon bananas beans beef beets berries biscuits bread broccoli butter cabbage cake carrots celery "
            "cheese cherries chicken chips chocolate corn crackers cream curry dates eggs figs grapes gravy ham honey "
            "jam lasagne lemons lentils lettuce lobster mangoes melons mushrooms mustard nuts oats olives onions "
            "oranges pancakes pasta peaches pears peas pizza plums porridge potatoes prunes pudding rice salad "
            "sausages soup stew toast waffles"
        ),
        statements=(
            "{who} likes to eat {value}.",
            "{whose} favourite food is {value}.",
            "{who} often eats {value}.",
            "{who} has a taste for {value}.",
        ),
        held_out_statement="{who} often likes to eat {value}.",
        questions=(
            "What does {name} like to eat?",
            "What is the favourite food of {name}?",
            "What does {name} often eat?",
        ),
    ),
    Attribute(
        name="animal",
        values=_words(
            "badger bat bear beaver bee bison boar buffalo camel cat cheetah cobra cow crab crane crow deer dog "
            "dolphin donkey dove eagle falcon finch frog giraffe goat goose hare hawk hedgehog heron horse hyena "
            "kangaroo koala lamb lion lizard llama mole monkey mouse newt otter owl panda parrot penguin pigeon pony "
            "puma rabbit raven robin salmon seal snake spider squirrel tiger whale wolf zebra"
        ),
        statements=(
            "{whose} favourite animal is the {value}.",
            "{who} is fond of the {value}.",
            "{who} likes to draw the {value}.",
            "{who} admires the {value}.",
        ),
        held_out_statement="{who} likes and admires the {value}.",
        questions=(
            "What is the favourite animal of {name}?",
            "Which animal is {name} fond of?",
            "Which animal does {name} admire?",
        ),
    ),
)
