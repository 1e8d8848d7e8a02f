"""How good a model is: what it flags on labelled flows, beside what simpler scorers flag.

Labels are read here, after scoring, and nowhere else. `truth` says what each flow was, `judge` what the p-values were
worth, `baselines`, `structure` and `midas` are the scorers to beat, `report` and `plots` tell a person.
"""
