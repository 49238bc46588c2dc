// The timeline of a run's steps: of the run view.
export {};
